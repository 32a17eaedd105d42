// Cases of the SDK tests: functions that throw when something is not as it should be. What the
// environment says is told in cases.py.

import assert from 'node:assert/strict';

export { assert };
export const { GATEWAY, SIM, KEYED, KEY, ADMIN_KEY } = process.env;

// Milliseconds for what is done at once on an idle machine.
const PATIENCE = 20_000;

const cases = [];

export function test(name, act) {
  cases.push([name, act]);
}

/** Runs all cases, says how each went, and ends the program. */
export async function run() {
  let failed = 0;
  for (const [name, act] of cases) {
    const started = performance.now();
    let outcome = 'ok';
    try {
      await act();
    } catch (error) {
      failed += 1;
      outcome = `FAILED\n${error.stack}`;
    }
    console.log(`${name} ... ${Math.round(performance.now() - started)} ms ... ${outcome}`);
  }
  console.log(`${cases.length - failed} of ${cases.length} cases passed`);
  process.exit(failed ? 1 : 0);
}

/** The error of exactly this class that `act` throws. */
export async function throws(kind, act) {
  let result;
  try {
    result = await act();
  } catch (error) {
    assert.equal(error.constructor.name, kind.name, `${error.stack}`);
    return error;
  }
  assert.fail(`${kind.name} expected, but it answered ${JSON.stringify(result)}`);
}

/** A user's message that a simulated model answers at once. */
export function say(text, ...wishes) {
  const settings = ['ttft=0ms', 'gap=0ms', ...wishes].join(',');
  return { role: 'user', content: `${text} [[sim:${settings}]]` };
}

/** All items of a stream. */
export async function all(stream) {
  const items = [];
  for await (const item of await stream) items.push(item);
  return items;
}

async function get(base, path) {
  const headers = path.startsWith('/admin/') ? { authorization: `Bearer ${ADMIN_KEY}` } : {};
  const reply = await fetch(base + path, { headers });
  assert.equal(reply.status, 200, path);
  return reply.json();
}

async function waitFor(what, look) {
  const started = performance.now();
  while (performance.now() - started < PATIENCE) {
    const found = await look();
    if (found) return [found, performance.now() - started];
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  assert.fail(`${what} did not happen within ${PATIENCE} ms`);
}

// Providers on the simulator behind sockets, each with a model of its own to count.
const FAR = ['far/tide-small', 'far-anthropic/tide-large', 'far-gemini/tide-reasoner'];

/**
 * Begins a stream of each provider with `begin`, which reads a little and returns the request's id
 * and what closes the stream. Checks that the provider hears of it and the journal says so.
 */
export async function leave(begin) {
  const all = [];
  for (const model of FAR) all.push(await leaveOne(model, begin));
  console.log(`providers heard of it after ${all.map((ms) => `${Math.round(ms)} ms`).join(', ')}`);
  // A tenth of a second is the promise; the rest is for a machine that runs other tests, too.
  assert(Math.min(...all) < 100 && Math.max(...all) < 1_000, `${all}`);
}

async function leaveOne(model, begin) {
  const name = model.split('/')[1];
  const counts = async () =>
    (await get(SIM, '/sim/stats')).models[name] ?? { in_flight: 0, cancelled: 0 };
  const before = await counts();
  const [id, close] = await begin(model);
  assert.equal((await counts()).in_flight, before.in_flight + 1, 'the provider is still talking');
  close();
  const [, took] = await waitFor(
    'the cancellation',
    async () => (await counts()).cancelled > before.cancelled,
  );
  const [entry] = await waitFor('the journal entry', async () =>
    (await get(GATEWAY, '/admin/v1/requests')).data.find((entry) => entry.id === id),
  );
  assert.equal(entry.outcome, 'client_gone');
  return took;
}

/** Whether a call of the weather tool has the arguments that its schema wants. */
export function checkWeather({ city, unit, ...rest }) {
  assert.equal(typeof city, 'string');
  assert(['celsius', 'fahrenheit'].includes(unit), unit);
  const days = rest.days ?? 1;
  assert(Number.isInteger(days) && days >= 1 && days <= 7, `${days}`);
  assert.deepEqual(Object.keys(rest).filter((key) => key !== 'days'), []);
}

export const WEATHER = {
  type: 'object',
  properties: {
    city: { type: 'string' },
    unit: { type: 'string', enum: ['celsius', 'fahrenheit'] },
    days: { type: 'integer', minimum: 1, maximum: 7 },
  },
  required: ['city', 'unit'],
  additionalProperties: false,
};

// The model of each simulated dialect that the gateway serves.
export const DIALECTS = ['sim/tide-large', 'sim-anthropic/tide-large', 'sim-gemini/tide-large'];
