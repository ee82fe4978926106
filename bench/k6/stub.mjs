// Runs ws.js without k6, in Node: one process, no load, for the test in this folder. It prints what was counted, as JSON.
//
//   node --experimental-websocket stub.mjs        (the same environment as for k6)
import { register } from 'node:module';

globalThis.__ENV = process.env;
globalThis.metrics = {};

const modules = {
  'k6/websockets': `
    export class WebSocket extends globalThis.WebSocket {
      constructor(url, protocols, params) { super(url, protocols); }
    }`,
  'k6/timers': 'export const { setTimeout, clearTimeout } = globalThis;',
  'k6/metrics': `
    class Metric {
      constructor(name) { this.values = globalThis.metrics[name] = []; }
      add(value) { this.values.push(Number(value)); }
    }
    export { Metric as Counter, Metric as Rate, Metric as Trend };`,
};
register('data:text/javascript,' + encodeURIComponent(`
  const modules = ${JSON.stringify(modules)};
  export async function resolve(name, context, next) {
    return name in modules ? { url: 'data:text/javascript,' + encodeURIComponent(modules[name]), shortCircuit: true } : next(name, context);
  }`));

const script = await import('./ws.js');
for (globalThis.__VU = 1; globalThis.__VU <= script.options.scenarios.clients.vus; globalThis.__VU++) {
  script.default();
}
process.on('beforeExit', () => { // when all connections have ended
  const sums = {};
  for (const [name, values] of Object.entries(globalThis.metrics)) {
    const sorted = values.toSorted((a, b) => a - b);
    sums[name] = { count: values.length, sum: values.reduce((a, b) => a + b, 0), max: sorted.at(-1) ?? 0 };
  }
  console.log(JSON.stringify({ sums, thresholds: Object.keys(script.options.thresholds) }));
});
