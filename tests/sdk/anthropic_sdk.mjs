// Anthropic's SDK for Node, unmodified, against a gateway.

import Anthropic from '@anthropic-ai/sdk';

import {
  DIALECTS, GATEWAY, KEY, KEYED, WEATHER, all, assert, checkWeather, leave, run, say, test, throws,
} from './cases.mjs';

const client = new Anthropic({ baseURL: GATEWAY, apiKey: 'unused', maxRetries: 0 });
const keyed = new Anthropic({ baseURL: KEYED, apiKey: KEY, maxRetries: 0 });
const wish = (model, messages, options = {}) => ({ model, max_tokens: 2048, messages, ...options });
const ask = (...of) => client.messages.create(wish(...of));

const tools = ['get_weather', 'get_tides'].map((name) => ({
  name, description: `Calls ${name}`, input_schema: WEATHER,
}));

test('a message is whole', async () => {
  for (const model of DIALECTS) {
    const answer = await ask(model, [say('Hello', 'tokens=12')]);
    assert.equal(answer.type, 'message');
    assert(answer.content[0].text.length > 20);
    assert.equal(answer.stop_reason, 'end_turn');
    assert.equal(answer.usage.output_tokens, 12);
  }
});

test('a message streams and the helper accumulates', async () => {
  for (const model of DIALECTS) {
    const messages = [say('Hello', 'tokens=12')];
    const events = await all(ask(model, messages, { stream: true }));
    const kinds = events.map((event) => event.type).filter((kind) => kind !== 'ping');
    assert.deepEqual(kinds.slice(0, 2), ['message_start', 'content_block_start']);
    assert.deepEqual(kinds.slice(-3), ['content_block_stop', 'message_delta', 'message_stop']);
    const stream = client.messages.stream(wish(model, messages));
    let text = '';
    stream.on('text', (piece) => { text += piece; });
    const final = await stream.finalMessage();
    assert.equal(final.content[0].text, text);
    assert.equal(final.usage.output_tokens, 12);
  }
});

test('tools are called in parallel and their results answered', async () => {
  for (const model of DIALECTS) {
    const messages = [say('Both', 'call=get_weather', 'call=get_tides')];
    const answer = await client.messages.stream(wish(model, messages, { tools })).finalMessage();
    const calls = answer.content.filter((block) => block.type === 'tool_use');
    assert.deepEqual(calls.map((call) => call.name), ['get_weather', 'get_tides']);
    assert.equal(answer.stop_reason, 'tool_use');
    for (const call of calls) checkWeather(call.input);
    const content = calls.map((call) => ({
      type: 'tool_result', tool_use_id: call.id, content: '11 degrees',
    }));
    messages.push({ role: 'assistant', content: answer.content }, { role: 'user', content });
    const final = await ask(model, messages, { tools });
    assert.match(final.content.at(-1).text, /11 degrees/);
  }
});

test('thinking goes round signed in a tool loop', async () => {
  const options = { tools, thinking: { type: 'enabled', budget_tokens: 1024 } };
  for (const model of DIALECTS.slice(1)) {
    const messages = [say('Weather', 'call=get_weather')];
    const answer = await client.messages.stream(wish(model, messages, options)).finalMessage();
    assert.equal(answer.content[0].type, 'thinking');
    const call = answer.content.at(-1);
    const content = [{ type: 'tool_result', tool_use_id: call.id, content: 'rain' }];
    messages.push({ role: 'assistant', content: answer.content }, { role: 'user', content });
    assert.match((await ask(model, messages, options)).content.at(-1).text, /rain/);
  }
});

test('tokens are counted and models listed', async () => {
  const messages = [{ role: 'user', content: 'How many tokens are these?' }];
  const count = await client.messages.countTokens({ model: 'sim-anthropic/tide-large', messages });
  assert(count.input_tokens > 0);
  const ids = (await all(client.models.list())).map((model) => model.id);
  for (const model of DIALECTS) assert(ids.includes(model), `${ids}`);
});

// === Errors ===

test('each refusal has its class', async () => {
  const bad = await throws(Anthropic.BadRequestError, () =>
    ask('sim-anthropic/tide-large', [{ role: 'user', content: 7 }]));
  assert.equal(bad.error.error.type, 'invalid_request_error');
  const unknown = await throws(Anthropic.NotFoundError, () => ask('sim/tide-smal', [say('Hi')]));
  assert.match(unknown.message, /sim\/tide-small/);
  const hello = wish('tide-small', [say('Hi', 'tokens=3')]);
  assert((await keyed.messages.create(hello)).content[0].text);
  const other = keyed.withOptions({ apiKey: 'tg-wrong' });
  await throws(Anthropic.AuthenticationError, () => other.messages.create(hello));
});

test("each fault of a provider's has its class", async () => {
  for (const model of DIALECTS) {
    for (const fault of ['status=500', 'status=503', 'html_502', 'connect_refused']) {
      // A 503 has a class of its own in this SDK.
      await assert.rejects(ask(model, [say('Hi', fault)]), (error) =>
        error instanceof Anthropic.APIError && error.status >= 500);
    }
  }
});

test('a stream that breaks throws', async () => {
  for (const model of DIALECTS) {
    for (const fault of ['cut_after=4', 'cut_in_frame=4', 'reset_after=4', 'error_event=4', 'no_terminal']) {
      let seen = 0;
      try {
        const stream = await ask(model, [say('Hi', 'tokens=9', fault)], { stream: true });
        for await (const event of stream) seen += event.type === 'content_block_delta';
      } catch (error) {
        assert(error instanceof Anthropic.APIError, `${model} ${fault} ${error.stack}`);
        assert(seen >= 4, `${model} ${fault} ${seen}`);
        continue;
      }
      assert.fail(`${model} with ${fault} ended in silence after ${seen}`);
    }
  }
});

test("a caller that leaves ends the provider's work", () =>
  leave(async (model) => {
    const messages = [{ role: 'user', content: '[[sim:ttft=0ms,gap=20ms,tokens=900]]' }];
    const { data, response } = await ask(model, messages, { stream: true }).withResponse();
    const events = data[Symbol.asyncIterator]();
    for (let i = 0; i < 4; i += 1) await events.next();
    return [response.headers.get('request-id'), () => data.controller.abort()];
  }));

// Last: from here on the gateway leaves these providers alone, as they ask.
test('a rate limit says when to come back', async () => {
  for (const model of DIALECTS) {
    const limited = await throws(Anthropic.RateLimitError, () =>
      ask(model, [say('Hi', 'status=429', 'retry_after=7s')]));
    const after = Number(limited.headers.get('retry-after'));
    assert(after >= 6 && after <= 7, `${after}`);
  }
});

await run();
