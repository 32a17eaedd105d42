// OpenAI's SDK for Node, unmodified, against a gateway.

import OpenAI from 'openai';

import {
  DIALECTS, GATEWAY, KEY, KEYED, WEATHER, all, assert, checkWeather, leave, run, say, test, throws,
} from './cases.mjs';

const client = new OpenAI({ baseURL: `${GATEWAY}/v1`, apiKey: 'unused', maxRetries: 0 });
const keyed = new OpenAI({ baseURL: `${KEYED}/v1`, apiKey: KEY, maxRetries: 0 });
const ask = (model, messages, options = {}) =>
  client.chat.completions.create({ model, messages, ...options });

const tools = ['get_weather', 'get_tides'].map((name) => ({
  type: 'function',
  function: { name, description: `Calls ${name}`, parameters: WEATHER },
}));

test('a completion is whole', async () => {
  for (const model of DIALECTS) {
    const answer = await ask(model, [say('Hello', 'tokens=12')]);
    assert.equal(answer.object, 'chat.completion');
    assert.equal(answer.choices.length, 1);
    assert.equal(answer.choices[0].finish_reason, 'stop');
    assert(answer.choices[0].message.content.length > 20);
    assert.equal(answer.usage.completion_tokens, 12);
  }
});

test('a completion streams, with usage only when asked', async () => {
  for (const model of DIALECTS) {
    const messages = [say('Hello', 'tokens=12')];
    const chunks = await all(ask(model, messages, { stream: true }));
    assert(chunks.every((chunk) => chunk.choices.length === 1 && !chunk.usage));
    assert.equal(chunks.filter((chunk) => chunk.choices[0].delta.content).length, 12);
    assert.equal(chunks.at(-1).choices[0].finish_reason, 'stop');
    const options = { stream: true, stream_options: { include_usage: true } };
    const counted = await all(ask(model, messages, options));
    assert.equal(counted.at(-1).usage.completion_tokens, 12);
    assert.deepEqual(counted.at(-1).choices, []);
    assert(counted.slice(0, -1).every((chunk) => !chunk.usage));
  }
});

test('a tool is called and its result answered', async () => {
  for (const model of DIALECTS) {
    const messages = [say('How is the weather in Oslo?')];
    const tool_choice = { type: 'function', function: { name: 'get_weather' } };
    const { message, finish_reason } = (await ask(model, messages, { tools, tool_choice })).choices[0];
    assert.equal(finish_reason, 'tool_calls');
    const [call] = message.tool_calls;
    checkWeather(JSON.parse(call.function.arguments));
    messages.push(message, { role: 'tool', tool_call_id: call.id, content: '11 degrees' });
    const answer = await ask(model, messages, { tools });
    assert.match(answer.choices[0].message.content, /11 degrees/);
  }
});

test('streamed parallel tool calls add up', async () => {
  for (const model of DIALECTS) {
    const messages = [say('Both', 'call=get_weather', 'call=get_tides')];
    const stream = client.chat.completions.stream({ model, messages, tools });
    const final = await stream.finalChatCompletion();
    const calls = final.choices[0].message.tool_calls;
    assert.deepEqual(calls.map((call) => call.function.name), ['get_weather', 'get_tides']);
    assert.notEqual(calls[0].id, calls[1].id);
    assert.equal(final.choices[0].finish_reason, 'tool_calls');
    for (const call of calls) checkWeather(JSON.parse(call.function.arguments));
  }
});

test('the runner of tools goes round', async () => {
  for (const model of DIALECTS) {
    const seen = [];
    const runnable = tools.map((tool) => ({
      type: 'function',
      function: {
        ...tool.function,
        parse: JSON.parse,
        function: (args) => {
          checkWeather(args);
          seen.push(tool.function.name);
          return '11 degrees';
        },
      },
    }));
    const messages = [say('Both', 'call=get_weather', 'call=get_tides')];
    const runner = client.chat.completions.runTools({ model, messages, tools: runnable, stream: true });
    assert.match(await runner.finalContent(), /11 degrees/);
    assert.deepEqual(seen, ['get_weather', 'get_tides']);
  }
});

test('an answer follows a schema', async () => {
  const schema = {
    type: 'object',
    properties: { name: { type: 'string' }, berths: { type: 'array', items: { type: 'integer' } } },
    required: ['name', 'berths'],
    additionalProperties: false,
  };
  const response_format = { type: 'json_schema', json_schema: { name: 'harbour', strict: true, schema } };
  for (const model of DIALECTS) {
    const answer = await client.chat.completions.parse({ model, messages: [say('Kiel')], response_format });
    const { name, berths } = answer.choices[0].message.parsed ?? JSON.parse(answer.choices[0].message.content);
    assert.equal(typeof name, 'string');
    assert(Array.isArray(berths));
  }
});

test('alternatives and log probabilities come where they are known', async () => {
  for (const model of ['sim/tide-large', 'sim-gemini/tide-large']) {
    const answer = await ask(model, [say('Hi', 'tokens=6')], { n: 2, logprobs: true, top_logprobs: 2 });
    assert.deepEqual(answer.choices.map((choice) => choice.index), [0, 1]);
    for (const { logprobs, message } of answer.choices) {
      assert.equal(logprobs.content.map((token) => token.token).join(''), message.content);
    }
  }
});

test('embeddings come in both encodings', async () => {
  const wish = { model: 'sim/tide-embed', input: ['low tide', 'high tide'] };
  const packed = await client.embeddings.create(wish);
  const plain = await client.embeddings.create({ ...wish, encoding_format: 'float' });
  for (const at of [0, 1]) {
    assert.equal(packed.data[at].embedding.length, plain.data[at].embedding.length);
    packed.data[at].embedding.forEach((value, i) =>
      assert(Math.abs(value - plain.data[at].embedding[i]) < 1e-6));
  }
});

test('legacy completions work', async () => {
  const prompt = say('Once upon', 'tokens=6').content;
  for (const model of ['sim/tide-instruct', 'sim/tide-large']) {
    const answer = await client.completions.create({ model, prompt });
    assert(answer.choices[0].text && answer.object === 'text_completion');
    const chunks = await all(client.completions.create({ model, prompt, stream: true }));
    assert.equal(chunks.at(-1).choices[0].finish_reason, 'stop');
  }
});

test('models are listed and retrieved', async () => {
  const ids = (await all(client.models.list())).map((model) => model.id);
  for (const model of DIALECTS) assert(ids.includes(model), `${ids}`);
  assert.equal((await client.models.retrieve('sim/tide-large')).id, 'sim/tide-large');
});

// === Errors ===

test('each refusal has its class', async () => {
  const bad = await throws(OpenAI.BadRequestError, () =>
    ask('sim/tide-large', [{ role: 'user', content: 7 }]));
  assert.match(bad.param, /^messages/);
  const unknown = await throws(OpenAI.NotFoundError, () => ask('sim/tide-smal', [say('Hi')]));
  assert.equal(unknown.code, 'model_not_found');
  assert.match(unknown.message, /sim\/tide-small/);
  const hello = { model: 'tide-small', messages: [say('Hi', 'tokens=3')] };
  assert((await keyed.chat.completions.create(hello)).choices[0].message.content);
  const other = keyed.withOptions({ apiKey: 'tg-wrong' });
  await throws(OpenAI.AuthenticationError, () => other.chat.completions.create(hello));
  const large = { ...hello, messages: [say('x'.repeat(100_000))] };
  const refused = await throws(OpenAI.APIError, () => keyed.chat.completions.create(large));
  assert.equal(refused.status, 413);
});

test("each fault of a provider's has its class", async () => {
  for (const model of DIALECTS) {
    for (const fault of ['status=500', 'status=503', 'html_502', 'connect_refused']) {
      await throws(OpenAI.InternalServerError, () => ask(model, [say('Hi', fault)]));
    }
  }
});

test('the SDK tries again and succeeds', async () => {
  const messages = [say('Try again: Node', 'first=1', 'status=503', 'retry_after=0s')];
  const patient = client.withOptions({ maxRetries: 2 });
  const answer = await patient.chat.completions.create({ model: 'far/tide-small', messages });
  assert(answer.choices[0].message.content);
});

test('a stream that breaks throws', async () => {
  for (const model of DIALECTS) {
    for (const fault of ['cut_after=4', 'cut_in_frame=4', 'reset_after=4', 'error_event=4', 'no_terminal']) {
      let seen = 0;
      const error = await throws(OpenAI.APIError, async () => {
        const stream = await ask(model, [say('Hi', 'tokens=9', fault)], { stream: true });
        for await (const chunk of stream) seen += chunk.choices.length;
      });
      assert(error.message && seen >= 4, `${model} ${fault} ${seen}`);
    }
  }
});

test("a caller that leaves ends the provider's work", () =>
  leave(async (model) => {
    const messages = [{ role: 'user', content: '[[sim:ttft=0ms,gap=20ms,tokens=900]]' }];
    const { data, response } = await ask(model, messages, { stream: true }).withResponse();
    const chunks = data[Symbol.asyncIterator]();
    for (let i = 0; i < 3; i += 1) await chunks.next();
    return [response.headers.get('x-request-id'), () => data.controller.abort()];
  }));

// Last: from here on the gateway leaves these providers alone, as they ask.
test('a rate limit says when to come back', async () => {
  for (const model of DIALECTS) {
    const limited = await throws(OpenAI.RateLimitError, () =>
      ask(model, [say('Hi', 'status=429', 'retry_after=7s')]));
    const after = Number(limited.headers.get('retry-after'));
    assert(after >= 6 && after <= 7, `${after}`);
  }
});

await run();
