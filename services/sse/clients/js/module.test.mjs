// The browsers' module in headless Chromium, against an edge that does as each test says. TICKWIRE_MODULE is the module's file.
import assert from 'node:assert/strict';
import {readFileSync} from 'node:fs';
import {createServer} from 'node:http';
import {after, before, describe, test} from 'node:test';
import {launch} from './chromium.mjs';

const moduleText = readFileSync(process.env.TICKWIRE_MODULE);

let browser;
before(async () => { browser = await launch(); });
after(() => browser?.close());

/** An edge whose streams are written by the test. */
class Edge {
  streams = []; // each {url, res, at, closed}, oldest first
  answer = null; // instead of a stream: (req, res) => void
  #waiting = [];
  headers = {};

  async listen() {
    this.server = createServer((req, res) => this.#serve(req, res));
    await new Promise((done) => this.server.listen(0, '127.0.0.1', done));
    this.base = `http://127.0.0.1:${this.server.address().port}`;
    return this;
  }

  close() {
    this.server.closeAllConnections();
    this.server.close();
  }

  #serve(req, res) {
    const url = new URL(req.url, this.base);
    if (url.pathname === '/tickwire-sse.js') {
      res.writeHead(200, {'Content-Type': 'text/javascript'}).end(moduleText);
    } else if (url.pathname.startsWith('/v1/sse/')) {
      if (this.answer) return this.answer(req, res);
      if (req.headers.accept === 'application/json') return res.end('{}');
      res.writeHead(200, {'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store'});
      res.flushHeaders();
      const stream = {url, res, at: Date.now(), closed: false, after: url.searchParams.get('lastEventId')};
      req.on('close', () => { stream.closed = true; });
      this.streams.push(stream);
      for (const wake of this.#waiting.splice(0)) wake();
    } else {
      res.writeHead(200, {'Content-Type': 'text/html', ...this.headers}).end('<!doctype html><title>t</title>');
    }
  }

  /** Waits for the n-th stream, counted from 1. */
  async stream(n, ms = 15_000) {
    const late = Date.now() + ms;
    while (this.streams.length < n) {
      assert.ok(Date.now() < late, `stream ${n} was not opened in ${ms} ms`);
      await Promise.race([new Promise((wake) => this.#waiting.push(wake)), new Promise((wake) => setTimeout(wake, 50))]);
    }
    return this.streams[n - 1];
  }
}

function send(stream, event, data, id) {
  stream.res.write(`${id ? `id: ${id}\n` : ''}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
}

const hello = (how, hb = 15_000) => ({proto: 1, ch: 'trades', symbols: ['A-B'], rate: 0, conn: 'c', ts: 1, how, hb_ms: hb});
const trade = (seq, {ep = 7, prev = seq - 1, sym = 'A-B'} = {}) => ({ch: 'trades', sym, t: 'trade', ep, prev, seq, price: '1', size: '1', ts: seq});
const snapshot = (seq, {ep = 7, trades = []} = {}) => ({ch: 'trades', items: [{sym: 'A-B', ep, seq, state: 'live', trades}]});
const sendTrade = (stream, seq, how) => send(stream, 'trade', trade(seq, how), `log.${seq}`);

/** Begins a stream at seq, as an edge does for a new client. */
function begin(stream, seq, hb) {
  send(stream, 'hello', hello('snapshot', hb));
  send(stream, 'snapshot', snapshot(seq), `log.${seq}`);
}

function resume(stream, hb) {
  send(stream, 'hello', hello('replay', hb), stream.after);
}

/** A page that follows trades and keeps what it gets in window.got. */
async function follow(context, edge, options = {}, init = '') {
  const page = await context.newPage();
  if (init) await page.addInitScript(init);
  await page.goto(edge.base);
  await page.evaluate(async (options) => {
    const {TickwireSSE} = await import('/tickwire-sse.js');
    window.got = [];
    window.sse = new TickwireSSE('trades', {symbols: ['A-B'], ...options});
    for (const ev of ['hello', 'snapshot', 'trade', 'gap', 'bar', 'ticker', 'bbo', 'status', 'reset', 'goodbye', 'state']) {
      window.sse.addEventListener(ev, (e) => window.got.push({ev, data: e.data, id: e.lastEventId, at: Date.now()}));
    }
  }, options);
  return page;
}

/** Waits until what the page got passes a test in the page, and returns it. */
async function until(page, check, arg, ms = 15_000) {
  await page.waitForFunction(check, arg, {timeout: ms, polling: 20});
  return page.evaluate(() => window.got);
}

const seqs = (got) => got.filter((e) => e.ev === 'trade').map((e) => e.data.seq);
const kinds = (got) => got.filter((e) => e.ev !== 'trade').map((e) => (e.ev === 'state' ? `${e.data.state} ${e.data.why}`.trim() : e.ev));
const has = (seq) => window.got.some((e) => e.ev === 'trade' && e.data.seq === seq);
const range = (from, to) => Array.from({length: to - from + 1}, (_, i) => from + i);

/** Runs f with an edge and a browser context of its own, whose shared workers nobody else sees. */
function each(name, f) {
  test(name, {timeout: 60_000}, async () => {
    const edge = await new Edge().listen();
    const context = await browser.newContext();
    try {
      await f(edge, context);
    } finally {
      await context.close();
      edge.close();
    }
  });
}

const least = 'Math.random = () => 0'; // the shortest waits: 2 s after a loss, 5 s after goodbye

describe('tickwire-sse.js', {concurrency: 4}, () => {
  for (const share of [true, false]) {
    const where = share ? 'shared' : 'alone';

    each(`${where}: a cut connection goes on behind the last event, in order and once`, async (edge, context) => {
      const page = await follow(context, edge, {share});
      const one = await edge.stream(1);
      assert.equal(one.url.search, '?symbols=A-B&hb=event');
      begin(one, 10);
      for (const seq of range(11, 15)) sendTrade(one, seq);
      one.res.write('id: log.16\nevent: tra'); // cut in the middle of a line
      await until(page, has, 15);
      one.res.destroy();
      const two = await edge.stream(2);
      assert.equal(two.after, 'log.15');
      assert.ok(two.at - one.at >= 1_900, `came back after ${two.at - one.at} ms`);
      resume(two);
      for (const seq of range(14, 20)) sendTrade(two, seq); // two of them again
      const got = await until(page, has, 20);
      assert.deepEqual(seqs(got), range(11, 20));
      assert.deepEqual(kinds(got), ['live', 'hello', 'snapshot', 'stale connection', 'hello', 'live']);
      const {items, state} = await page.evaluate(() => ({items: [...window.sse.items.values()], state: window.sse.stateOf('A-B')}));
      assert.equal(items[0].seq, 20);
      assert.equal(items[0].trades.length, 10);
      assert.equal(state, 'live');
    });

    each(`${where}: silence of 2.5 heartbeats ends a connection`, async (edge, context) => {
      const page = await follow(context, edge, {share});
      const one = await edge.stream(1);
      begin(one, 10, 400);
      for (let n = 0; n < 8; n++) { // heartbeats keep it
        await new Promise((done) => setTimeout(done, 400));
        send(one, 'hb', {ts: n}, 'log.10');
      }
      assert.equal(edge.streams.length, 1);
      const last = Date.now();
      const two = await edge.stream(2);
      assert.ok(two.at - last >= 600 && two.at - last < 4_000, `given up after ${two.at - last} ms`);
      resume(two);
      const got = await until(page, () => window.sse.state === 'live' && window.got.length > 4);
      assert.deepEqual(kinds(got), ['live', 'hello', 'snapshot', 'stale silent', 'hello', 'live']);
      assert.ok(one.closed);
    });

    each(`${where}: an answer that is no stream is asked again, a refusal ends it`, async (edge, context) => {
      edge.answer = (req, res) => res.writeHead(503, {'Content-Type': 'text/plain'}).end('later');
      const page = await follow(context, edge, {share});
      await page.waitForTimeout(300);
      edge.answer = null;
      begin(await edge.stream(1), 3);
      await until(page, () => window.sse.state === 'live');
      edge.answer = (req, res) => res.writeHead(404, {'Content-Type': 'application/problem+json'}).end(JSON.stringify({status: 404, code: 'unknown_symbol'}));
      edge.streams[0].res.destroy();
      const got = await until(page, () => window.sse.state === 'closed');
      assert.deepEqual(kinds(got).slice(-1), ['closed refused']);
      assert.equal(await page.evaluate(() => window.sse.problem.code), 'unknown_symbol');
      await page.evaluate(() => document.dispatchEvent(new Event('visibilitychange')));
      await page.waitForTimeout(300);
      assert.equal(edge.streams.length, 1);
    });

    each(`${where}: what an edge leaves out is said, and so is a reset`, async (edge, context) => {
      const page = await follow(context, edge, {share});
      const one = await edge.stream(1);
      begin(one, 10);
      sendTrade(one, 11);
      sendTrade(one, 14);
      await until(page, has, 14);
      send(one, 'reset', {why: 'slow'});
      send(one, 'snapshot', snapshot(40, {trades: [trade(40)]}), 'log.40');
      sendTrade(one, 41);
      const got = await until(page, has, 41);
      assert.deepEqual(kinds(got), ['live', 'hello', 'snapshot', 'gap', 'reset', 'snapshot']);
      const gap = got.find((e) => e.ev === 'gap').data;
      assert.deepEqual([gap.why, gap.missed, gap.prev, gap.seq], ['lost', 2, 11, 13]);
      assert.equal(await page.evaluate(() => window.sse.items.get('A-B').trades.length), 2);
    });

    each(`${where}: a page that comes back from the back-forward cache misses nothing`, async (edge, context) => {
      const page = await follow(context, edge, {share});
      const one = await edge.stream(1);
      begin(one, 10);
      sendTrade(one, 11);
      await until(page, has, 11);
      await page.evaluate(() => window.dispatchEvent(new PageTransitionEvent('pagehide', {persisted: true})));
      await page.waitForTimeout(200);
      assert.ok(one.closed, 'a hidden page keeps no connection');
      await page.evaluate(() => window.dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true})));
      const two = await edge.stream(2);
      assert.equal(two.after, 'log.11');
      resume(two);
      for (const seq of range(12, 14)) sendTrade(two, seq);
      assert.deepEqual(seqs(await until(page, has, 14)), range(11, 14));
      assert.equal(await page.evaluate(() => window.sse.items.get('A-B').trades.length), 4);
    });

    each(`${where}: back from offline, a connection is opened anew`, async (edge, context) => {
      const page = await follow(context, edge, {share});
      const one = await edge.stream(1);
      begin(one, 10);
      await until(page, () => window.sse.state === 'live');
      await page.waitForTimeout(2_100);
      await page.evaluate(() => window.dispatchEvent(new Event('online')));
      const two = await edge.stream(2, 1_000);
      assert.equal(two.after, 'log.10');
    });
  }

  each('goodbye is obeyed, and no wake-up shortens it', async (edge, context) => {
    const page = await follow(context, edge, {share: false}, least);
    const one = await edge.stream(1);
    begin(one, 10);
    send(one, 'goodbye', {why: 'drain', retry_ms: 5_000});
    one.res.end();
    await until(page, () => window.sse.state === 'stale');
    const since = Date.now();
    for (let n = 0; n < 8; n++) {
      await page.evaluate(() => { document.dispatchEvent(new Event('visibilitychange')); window.dispatchEvent(new Event('online')); });
      await page.waitForTimeout(500);
    }
    const two = await edge.stream(2);
    assert.ok(two.at - since > 4_500 && two.at - since < 7_500, `came back after ${two.at - since} ms`);
    assert.equal(two.after, 'log.10');
    resume(two);
    const got = await until(page, () => window.sse.state === 'live');
    assert.deepEqual(kinds(got), ['live', 'hello', 'snapshot', 'goodbye', 'stale goodbye', 'hello', 'live']);
  });

  each('a wake-up shortens the wait for a server that was away', async (edge, context) => {
    const page = await follow(context, edge, {share: false}, 'Math.random = () => 0.99');
    const one = await edge.stream(1);
    begin(one, 10);
    await until(page, () => window.sse.state === 'live');
    one.res.destroy();
    await until(page, () => window.sse.state === 'stale');
    await page.evaluate(() => document.dispatchEvent(new Event('visibilitychange')));
    await edge.stream(2, 1_500);
  });

  each('a frozen page of its own holds no connection, and goes on when it is resumed', async (edge, context) => {
    const page = await follow(context, edge, {share: false});
    const one = await edge.stream(1);
    begin(one, 10);
    sendTrade(one, 11);
    await until(page, has, 11);
    // As an event alone: playwright keeps pages in the focus, and Chromium freezes none that is.
    await page.evaluate(() => document.dispatchEvent(new Event('freeze')));
    await page.waitForTimeout(200);
    assert.ok(one.closed);
    await page.evaluate(() => document.dispatchEvent(new Event('resume')));
    const two = await edge.stream(2);
    assert.equal(two.after, 'log.11');
    resume(two);
    sendTrade(two, 12);
    assert.deepEqual(seqs(await until(page, has, 12)), [11, 12]);
  });

  each('tabs share one connection; who joins later gets a snapshot; who leaves last closes it', async (edge, context) => {
    const first = await follow(context, edge);
    const one = await edge.stream(1);
    begin(one, 10);
    for (const seq of range(11, 40)) sendTrade(one, seq);
    await until(first, has, 40);
    const second = await follow(context, edge);
    let got = await until(second, () => window.got.some((e) => e.ev === 'snapshot'));
    assert.deepEqual(kinds(got), ['live', 'hello', 'snapshot']);
    const [item] = got.find((e) => e.ev === 'snapshot').data.items;
    assert.deepEqual([item.seq, item.trades.map((t) => t.seq)], [40, range(21, 40)]);
    for (const seq of range(41, 50)) sendTrade(one, seq);
    assert.deepEqual(seqs(await until(second, has, 50)), range(41, 50));
    assert.deepEqual(seqs(await until(first, has, 50)), range(11, 50));
    assert.equal(edge.streams.length, 1);
    await first.close();
    await new Promise((done) => setTimeout(done, 300));
    assert.ok(!one.closed);
    sendTrade(one, 51);
    got = await until(second, has, 51);
    await second.evaluate(() => window.sse.close());
    await new Promise((done) => setTimeout(done, 300));
    assert.ok(one.closed, 'nobody is left');
    assert.equal(got.filter((e) => e.ev === 'gap').length, 0);
  });

  each('another view is another connection', async (edge, context) => {
    await follow(context, edge);
    await follow(context, edge, {symbols: ['B-C', 'A-B', 'B-C'], rate: 250});
    await edge.stream(2);
    assert.deepEqual(edge.streams.map((s) => s.url.search).sort(), ['?symbols=A-B%2CB-C&rate=250&hb=event', '?symbols=A-B&hb=event']);
  });

  each('a tab that stands still is caught up without a gap, or by a reset', async (edge, context) => {
    const tabs = [await follow(context, edge)];
    const one = await edge.stream(1);
    begin(one, 0);
    tabs.push(await follow(context, edge));
    await until(tabs[1], () => window.got.some((e) => e.ev === 'snapshot'));
    const stand = (ms) => tabs[1].evaluate((ms) => setTimeout(() => { for (const end = Date.now() + ms; Date.now() < end;); }, 0), ms);
    await stand(1_000);
    for (const seq of range(1, 1_000)) sendTrade(one, seq); // fewer than may wait
    for (const tab of tabs) assert.deepEqual(seqs(await until(tab, has, 1_000)), range(1, 1_000));
    await stand(3_000);
    for (const seq of range(1_001, 15_000)) sendTrade(one, seq); // more than may wait, and more than is kept
    // A tab is let in again when it has read what it was sent; from then on it follows. The first one may share its process.
    for (let seq = 15_001; seq <= 15_100; seq++) {
      sendTrade(one, seq);
      await new Promise((done) => setTimeout(done, 20));
    }
    let resets = 0;
    for (const tab of tabs) {
      let at = 0;
      for (const e of await until(tab, () => window.sse.items.get('A-B').seq === 15_100)) {
        if (e.ev === 'reset') resets++;
        if (e.ev === 'snapshot') at = e.data.items[0].seq;
        if (e.ev === 'trade') assert.equal(e.data.seq, ++at);
        assert.notEqual(e.ev, 'gap');
      }
      assert.equal(at, 15_100);
    }
    assert.ok(resets > 0, 'what was not kept for a tab is said');
  });

  each('a shared worker that may not run is done without', async (edge, context) => {
    edge.headers = {'Content-Security-Policy': "worker-src 'none'"};
    const page = await follow(context, edge);
    const one = await edge.stream(1);
    begin(one, 10);
    sendTrade(one, 11);
    assert.deepEqual(seqs(await until(page, has, 11)), [11]);
  });

  each('a shared worker that dies is done without', async (edge, context) => {
    const page = await follow(context, edge);
    const one = await edge.stream(1);
    begin(one, 10);
    sendTrade(one, 11);
    await until(page, has, 11);
    const cdp = await browser.newBrowserCDPSession();
    const {targetInfos} = await cdp.send('Target.getTargets', {filter: [{type: 'shared_worker'}]});
    const worker = targetInfos.find((t) => t.url.startsWith(edge.base));
    await cdp.send('Target.closeTarget', {targetId: worker.targetId});
    const two = await edge.stream(2, 30_000); // after 15 s without a word
    assert.ok(one.closed);
    assert.equal(two.after, 'log.11');
    resume(two);
    sendTrade(two, 12);
    assert.deepEqual(seqs(await until(page, has, 12)), [11, 12]);
  });

  each('who is cut off before the snapshot begins again', async (edge, context) => {
    const page = await follow(context, edge);
    const one = await edge.stream(1);
    send(one, 'hello', hello('snapshot'));
    await until(page, () => true);
    one.res.destroy();
    const two = await edge.stream(2);
    assert.equal(two.after, null);
    begin(two, 10);
    assert.deepEqual(kinds(await until(page, () => window.sse.state === 'live')), ['live', 'hello', 'snapshot']);
  });

  each('bars: the items are the last two final ones and the open one', async (edge, context) => {
    const page = await follow(context, edge);
    const one = await edge.stream(1);
    const bar = (t, seq, more) => ({ch: 'bars', sym: 'A-B', iv: '1m', ep: 7, t, seq, ...more});
    const final = (t, seq, more) => bar(t, seq, {prev: seq - 1, final: true, ...more});
    send(one, 'hello', {...hello('snapshot'), ch: 'bars'});
    send(one, 'snapshot', {ch: 'bars', items: [{sym: 'A-B', ep: 7, seq: 2, state: 'live', bars: [final(60, 1), final(120, 2), bar(180, 900)]}]}, 'log.2');
    send(one, 'bar', bar(180, 901));
    send(one, 'bar', final(180, 3), 'log.3');
    send(one, 'bar', bar(240, 902));
    send(one, 'bar', final(120, 4, {rev: 1}), 'log.4');
    send(one, 'bar', final(60, 5, {rev: 1}), 'log.5'); // of one that is no longer among them
    send(one, 'status', {ev: 'status', ch: 'bars', sym: 'A-B', state: 'stale', why: 'silent', ep: 7, seq: 5, ts: 1});
    await until(page, () => window.got.some((e) => e.ev === 'status'));
    const {item, state} = await page.evaluate(() => ({item: window.sse.items.get('A-B'), state: window.sse.stateOf('A-B')}));
    assert.deepEqual(item.bars.map((b) => [b.t, b.seq, b.rev ?? 0]), [[120, 4, 1], [180, 3, 0], [240, 902, 0]]);
    assert.deepEqual([item.seq, state], [5, 'stale']);
  });

  each('each connection has a ticket of its own', async (edge, context) => {
    const page = await context.newPage();
    await page.addInitScript(least);
    await page.goto(edge.base);
    await page.evaluate(async () => {
      const {TickwireSSE} = await import('/tickwire-sse.js');
      let n = 0;
      window.sse = new TickwireSSE('ticker', {symbols: '*', ticket: async () => `t${++n}`});
    });
    const one = await edge.stream(1);
    assert.equal(one.url.pathname + one.url.search, '/v1/sse/ticker/all?hb=event&ticket=t1');
    one.res.destroy();
    const two = await edge.stream(2);
    assert.equal(two.url.searchParams.get('ticket'), 't2');
    edge.answer = (req, res) => res.writeHead(401, {'Content-Type': 'application/problem+json'}).end(JSON.stringify({status: 401, code: 'auth_failed'}));
    two.res.destroy();
    await page.waitForTimeout(4_000); // refused at least once
    assert.notEqual(await page.evaluate(() => window.sse.state), 'closed');
    edge.answer = null;
    await edge.stream(3);
    edge.answer = (req, res) => res.writeHead(401, {'Content-Type': 'application/problem+json'}).end(JSON.stringify({status: 401, code: 'auth_failed'}));
    edge.streams[2].res.destroy();
    await page.waitForFunction(() => window.sse.problem?.code === 'auth_failed', undefined, {timeout: 40_000});
  });
});
