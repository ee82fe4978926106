// Load on Tickwire's WebSocket edge by k6 (1.6 or newer; before, the module was k6/experimental/websockets). Each virtual user
// is one client, which stays for DURATION, counts what it gets, and checks that each message follows the one before it.
//
//   k6 run -e URL=wss://HOST/v1/ws -e SYMBOLS=BTC-USDT,ETH-USDT -e VUS=200 -e DURATION=60s -e TOKEN=… ws.js
//
// README.md says what the figures mean.
import { WebSocket } from 'k6/websockets';
import { setTimeout, clearTimeout } from 'k6/timers';
import { Counter, Rate, Trend } from 'k6/metrics';
import { begin, follow } from './follow.js';

const url = __ENV.URL || 'ws://127.0.0.1:8081/v1/ws';
const symbols = (__ENV.SYMBOLS || 'BTC-USDT,ETH-USDT').split(',');
const channel = __ENV.CHANNEL || 'trades'; // or book
const perRequest = 40; // a request may have 4 KiB
const vus = Number(__ENV.VUS || 20);
const seconds = parseSeconds(__ENV.DURATION || '30s');
const ramp = parseSeconds(__ENV.RAMP || '5s'); // over which the clients connect
const maxAge = Number(__ENV.MAX_AGE_MS || 500); // p99

const deliveries = new Counter('tickwire_deliveries');
const gaps = new Counter('tickwire_gaps'); // messages that did not follow
const lost = new Counter('tickwire_lost'); // losses that the server told
const again = new Counter('tickwire_again'); // messages that were there already
const refused = new Counter('tickwire_refused');
const closed = new Counter('tickwire_closed'); // connections that ended before their time
const ready = new Rate('tickwire_ready'); // clients that got everything they asked for
const age = new Trend('tickwire_age', true); // from the event's own time to its receipt, in ms
const connecting = new Trend('tickwire_connecting', true); // until the subscription was answered

export const options = {
  scenarios: {
    clients: {
      executor: 'per-vu-iterations',
      vus,
      iterations: 1,
      maxDuration: `${seconds + ramp + 30}s`,
    },
  },
  thresholds: {
    tickwire_gaps: ['count==0'],
    tickwire_lost: ['count==0'],
    tickwire_refused: ['count==0'],
    tickwire_closed: ['count==0'],
    tickwire_ready: ['rate==1'],
    tickwire_deliveries: ['count>0'],
    tickwire_age: [`p(99)<${maxAge}`],
  },
};

// A client returns at once: k6 goes on with its events until its connection has ended.
export default function () {
  setTimeout(client, ((__VU - 1) / vus) * ramp * 1000);
}

function client() {
  const began = Date.now();
  const places = {};
  let granted = 0;
  let over = false;
  const params = __ENV.TOKEN ? { headers: { Authorization: `Bearer ${__ENV.TOKEN}` } } : {};
  const ws = new WebSocket(url, 'tickwire.v1.json', params);
  const end = () => {
    over = true;
    ws.close();
  };
  const timer = setTimeout(end, seconds * 1000);

  ws.addEventListener('message', (e) => {
    const now = Date.now();
    const m = JSON.parse(e.data);
    if (m.ch === channel && m.t !== undefined) {
      take(places, m, now);
    } else if (m.ev === 'hello') {
      for (let i = 0; i < symbols.length; i += perRequest) {
        ws.send(JSON.stringify({ op: 'sub', id: i, topics: symbols.slice(i, i + perRequest).map((sym) => ({ ch: channel, sym })) }));
      }
    } else if (m.id !== undefined) {
      granted += answer(places, m);
      if (granted === symbols.length) {
        ready.add(true);
        connecting.add(Date.now() - began);
      }
    }
  });
  ws.addEventListener('error', (e) => {
    if (!over) {
      console.error(`client ${__VU}: ${e.error}`);
    }
  });
  ws.addEventListener('close', () => {
    clearTimeout(timer);
    if (granted < symbols.length) {
      ready.add(false);
    }
    if (!over) {
      closed.add(1);
    }
  });
}

/** answer takes the answer to a subscription, and returns how many topics were granted. */
function answer(places, m) {
  for (const row of m.ok || []) {
    places[row.sym] = {};
    begin(places[row.sym], row);
  }
  for (const row of [].concat(m.err || [])) { // of topics, or one of the whole request
    refused.add(1, { code: row.code });
    console.error(`${row.sym || url}: ${row.msg}`);
  }
  return (m.ok || []).length;
}

function take(places, m, now) {
  const place = places[m.sym] || (places[m.sym] = {});
  switch (follow(place, m)) {
    case 'again':
      again.add(1);
      return;
    case 'lost':
      lost.add(1);
      return;
    case 'begin':
      return; // its time is that of the book, not of something new
    case 'gap':
      gaps.add(1);
  }
  deliveries.add(1);
  age.add(now - m.ts / 1000); // ts is in µs
}

/** parseSeconds reads 90, 90s, 5m or 1h. */
function parseSeconds(text) {
  const [, n, unit] = /^(\d+(?:\.\d+)?)([smh]?)$/.exec(text) || [];
  if (n === undefined) {
    throw new Error(`${text} is no duration such as 90s, 5m or 1h`);
  }
  return Number(n) * { '': 1, s: 1, m: 60, h: 3600 }[unit];
}
