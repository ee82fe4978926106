/**
 * Tickwire's streams in a browser. No dependencies, no build step:
 *
 *   import {TickwireSSE} from '/tickwire-sse.js';
 *   const trades = new TickwireSSE('trades', {symbols: ['BTC-USDT', 'ETH-USDT']});
 *   trades.addEventListener('snapshot', (e) => draw(e.data.items));
 *   trades.addEventListener('trade', (e) => append(e.data));
 *   trades.addEventListener('state', (e) => grey(e.data.state !== 'live'));
 *   trades.close();
 *
 * new TickwireSSE(channel, options)
 *   channel   'ticker', 'bbo', 'trades' or 'bars'
 *   symbols   what to follow; '*' is every instrument, for tickers
 *   rate      milliseconds between events, or '250ms'; iv: the interval of bars, '1m'. The edge has defaults
 *   base      URL of the edge, above v1/sse; where this module came from unless given
 *   ticket    async () => string: a new ticket for each connection, where the edge asks for one
 *   credentials  true to send the cookies of an edge of another origin; to its own they always go
 *   share     false for a connection of its own
 *
 * Events are MessageEvents: `data` is the parsed JSON, `lastEventId` the position behind it. Their types are the stream's
 * own (docs/PROTOCOL.md): hello snapshot trade gap bar ticker bbo status reset goodbye; and
 *   state     data is {state, why}: what `state` and `why` say from now on
 *
 * Properties
 *   state     'connecting' at first; 'live' while the edge speaks to us; 'stale' while it does not, so that what the page
 *             shows may be old; 'closed' at the end: by close(), or because the edge refuses (why: 'refused', and `problem`
 *             is what it answered)
 *   items     Map of symbol to its item, in the form of `snapshot`, kept up to date: the newest value, the last 20 trades,
 *             the last 2 final bars and the open one
 *   stateOf(symbol)   the instrument's state (live, quiet, stale, halted, delisted); 'stale' whenever the stream is
 *
 * What can be relied on
 * - Trades, gaps and final bars come in order, and once, across connections, edges and the page's own sleep. What can't
 *   be resumed is said: `reset`, then a `snapshot`. If an edge left something out without saying so, a `gap` with why
 *   'lost' says it here.
 * - A connection that has been silent for 2.5 heartbeats (37.5 s) is given up and opened anew. The clock on the wall counts,
 *   so that a laptop that wakes up knows at once. A connection also opens anew when the page becomes visible, is resumed
 *   from being frozen, comes back from the back-forward cache, or the network returns, as far as there is need.
 * - The next connection begins behind the last event (`lastEventId`), after a random 2 to 5 s, longer after several failures,
 *   30 s at most. After `goodbye` it is what the edge says (`retry_ms`), which nothing shortens. EventSource
 *   itself never comes back after an answer such as 503 from a proxy; this does. It ends for good only when the edge
 *   refuses: 400, 401, 403, 404 and their like; a ticket four times running, since only the edge that gave it takes it.
 *
 * One connection for all tabs
 * Browsers open six HTTP/1.1 connections to an origin, for all tabs together. So the tabs of an origin share one for each
 * view, in a SharedWorker that runs this same file; one that joins later gets hello and snapshot from what the worker keeps.
 * A tab that is frozen, or can't keep up, has at most 4,096 messages waiting for it; then it is caught up from the last
 * 2,000 events, or by reset and snapshot. Where there is no SharedWorker (Chrome on Android), where it may not be loaded
 * (another origin, a Content-Security-Policy), or where it died, each tab has a connection; so has each stream with a
 * ticket, which speaks for one user. Files with different VERSIONs do not share.
 */

const VERSION = '1'; // of what a page and the worker say to each other
const EVENTS = ['hello', 'snapshot', 'trade', 'gap', 'bar', 'ticker', 'bbo', 'status', 'reset', 'goodbye', 'hb'];

const LOST = [2_000, 5_000]; // milliseconds until the next connection: what the edge's own `retry` says
const GOODBYE = [5_000, 30_000];
const LONGEST = 30_000;
const SILENT = 2.5; // heartbeats
const HELLO = 15_000; // for the edge to answer
const TICK = 1_000;
const ALIVE = 5; // ticks
const DEAD = 15;
const KEPT = 2_000; // events for tabs to catch up with
const AHEAD = 4_096; // messages that a tab has not dealt with
const ACK = 64;
const TRADES = 20; // of an item, as in the edge's snapshot
const FINAL = 2;
const TICKETS = 4; // refused one after the other

export class TickwireSSE extends EventTarget {
  state = 'connecting';
  why = '';
  problem = null;
  items = new Map();

  #view; // what identifies the connection
  #private; // a hub for this stream alone
  #send = null; // to the hub, while attached
  #port = null;
  #after = ''; // position behind the last event that was dispatched
  #handled = 0; // messages since attaching
  #quiet = 0; // ticks since the hub said anything
  #watch;
  #off = new AbortController();

  constructor(channel, {symbols = [], rate, iv, base = new URL('.', import.meta.url).href, ticket, credentials = false, share = true} = {}) {
    super();
    this.#view = {url: viewURL(channel, symbols, rate, iv, base), credentials};
    this.#private = ticket || !share ? new Hub(ticket) : null;
    this.#listen();
    this.#watch = setInterval(() => this.#check(), TICK);
    this.#attach();
  }

  /** The state of an instrument's data. */
  stateOf(sym) {
    return this.state === 'live' ? (this.items.get(sym)?.state ?? 'stale') : this.state;
  }

  /** Ends the stream. */
  close() {
    this.#end('closed', null);
  }

  #listen() {
    if (typeof document === 'undefined') return;
    const on = (target, type, f) => target.addEventListener(type, f, {signal: this.#off.signal});
    on(document, 'visibilitychange', () => document.visibilityState === 'visible' && this.#send?.({op: 'wake'}));
    on(window, 'online', () => this.#send?.({op: 'online'}));
    on(window, 'pagehide', () => this.#detach());
    on(window, 'pageshow', () => this.#send ? this.#send({op: 'wake'}) : this.#attach());
    // A connection of a frozen page's own would fill up buffers all the way to the edge. A shared one belongs to others too.
    on(document, 'freeze', () => this.#port || this.#detach());
    on(document, 'resume', () => this.#send ? this.#send({op: 'wake'}) : this.#attach());
  }

  #attach() {
    this.#quiet = this.#handled = 0;
    const worker = this.#private ? null : sharedWorker();
    if (worker) {
      const port = this.#port = worker.port;
      this.#send = (m) => port.postMessage(m);
      port.onmessage = (e) => port === this.#port && this.#receive(e.data);
      worker.onerror = () => port === this.#port && this.#alone(); // its file can't be loaded
    } else {
      // Messages of one that was detached in the meantime are not ours any more.
      const send = (this.#private ?? (local ??= new Hub())).connect((m) => send === this.#send && this.#receive(m));
      this.#send = send;
    }
    this.#send({op: 'attach', view: this.#view, after: this.#after, items: this.#after && JSON.stringify([...this.items.values()])});
  }

  #detach() {
    this.#send?.({op: 'detach'});
    this.#send = null;
    this.#port?.close();
    this.#port = null;
  }

  /** Goes on without the shared worker. */
  #alone() {
    workerFailed = true;
    this.#detach();
    this.#attach();
  }

  /** The worker says something each five seconds, whatever happens to its connection. Ticks stand still while we sleep. */
  #check() {
    if (++this.#quiet > DEAD && this.#port) this.#alone();
  }

  #end(why, problem) {
    if (this.state === 'closed') return;
    clearInterval(this.#watch);
    this.#off.abort();
    this.#detach();
    this.problem = problem;
    this.#become('closed', why);
  }

  #become(state, why) {
    if (state === this.state && why === this.why) return;
    this.state = state;
    this.why = why;
    this.#dispatch('state', {state, why}, this.#after);
  }

  #dispatch(type, data, lastEventId) {
    this.dispatchEvent(new MessageEvent(type, {data, lastEventId}));
  }

  #receive({ev, data: text, id}) {
    this.#quiet = 0;
    if (ev === 'alive') return;
    const data = JSON.parse(text);
    if (ev === 'end') return this.#end('refused', data);
    if (ev === 'state') return this.#become(data.state, data.why);
    const gap = missing(this.items, ev, data);
    const news = fold(this.items, ev, data);
    if (id) this.#after = id;
    if (gap) this.#dispatch('gap', gap, id);
    if (news) this.#dispatch(ev, data, id);
    if (++this.#handled % ACK === 0) this.#send?.({op: 'ack', n: this.#handled, after: this.#after});
  }
}

/** A view's URL, the same whatever the order of the symbols, so that whoever asks for the same shares it. */
function viewURL(channel, symbols, rate, iv, base) {
  const url = new URL(`v1/sse/${channel}${symbols === '*' ? '/all' : ''}`, base.endsWith('/') ? base : base + '/');
  if (symbols !== '*') url.searchParams.set('symbols', [...new Set([symbols].flat())].sort().join(','));
  if (rate !== undefined) url.searchParams.set('rate', String(rate));
  if (iv) url.searchParams.set('iv', iv);
  return url.href;
}

let local; // the hub of a page without a shared worker
let workerFailed = false;

function sharedWorker() {
  if (workerFailed || typeof SharedWorker === 'undefined') return null;
  try {
    return new SharedWorker(import.meta.url, {type: 'module', name: `tickwire-sse/${VERSION}`});
  } catch {
    workerFailed = true; // of another origin, or forbidden
    return null;
  }
}

/**
 * fold brings items up to date by an event, and tells whether it was news. Trades, gaps and final bars are, if they stand
 * behind the item's place; other values, unless they are older than the one we have.
 */
function fold(items, ev, data) {
  if (ev === 'snapshot' || ev === 'reset') {
    items.clear();
    for (const item of data.items ?? []) items.set(item.sym, {...item}); // the event's own stay as they are
    return true;
  }
  if (!data.sym) return true;
  let item = items.get(data.sym);
  if (!item) items.set(data.sym, item = {sym: data.sym, state: 'live'});
  switch (ev) {
    case 'status':
      item.state = data.state;
      item.why = data.why;
      return true;
    case 'trade':
    case 'gap':
      if (!behind(item, data)) return false;
      if (ev === 'trade') item.trades = [...(item.trades ?? []), data].slice(-TRADES);
      break;
    case 'bar':
      if (!data.final) return foldOpen(item, data);
      if (!behind(item, data)) return false;
      foldFinal(item, data);
      break;
    default: // ticker, bbo
      if (item[ev] && behind(data, item[ev])) return false;
      item[ev] = data;
  }
  item.ep = data.ep;
  item.seq = data.seq;
  return true;
}

function foldOpen(item, bar) {
  const bars = item.bars ?? [];
  const open = bars.find((b) => !b.final);
  if (open && behind(bar, open)) return false;
  item.bars = [...bars.filter((b) => b.final), bar];
  return true;
}

function foldFinal(item, bar) {
  const bars = (item.bars ?? []).filter((b) => b.t !== bar.t);
  const final = [...bars.filter((b) => b.final), bar].sort((a, b) => a.t - b.t).slice(-FINAL);
  item.bars = [...final, ...bars.filter((b) => !b.final)];
}

/** Tells whether an event stands behind a place. */
function behind(place, data) {
  return place.seq === undefined || data.ep > place.ep || (data.ep === place.ep && data.seq > place.seq);
}

/** What is missing between an item and the event that should follow it, as a gap; null if nothing is. */
function missing(items, ev, data) {
  const item = items.get(data.sym);
  if (ev === 'gap' || data.prev === undefined || !item || data.ep !== item.ep || data.prev <= item.seq) return null;
  return {ch: data.ch, sym: data.sym, t: 'gap', why: 'lost', missed: data.prev - item.seq, ep: data.ep, prev: item.seq, seq: data.prev};
}

function between([least, most]) {
  return least + Math.random() * (most - least);
}

/** Hub holds the connections, one for each view, and hands out what arrives. It runs in the shared worker, or in a page. */
class Hub {
  #views = new Map();
  #ticket;

  constructor(ticket) {
    this.#ticket = ticket;
  }

  /** Takes in a tab that gets messages by post; returns what the tab sends messages with. */
  connect(post) {
    let tab = null;
    let view = null;
    const keyOf = ({url, credentials}) => `${url} ${credentials}`;
    const forget = (v) => this.#views.get(keyOf(v)) === v && this.#views.delete(keyOf(v));
    const leave = () => {
      view?.leave(tab);
      view = null;
    };
    return (m) => {
      switch (m.op) {
        case 'attach':
          leave();
          view = this.#views.get(keyOf(m.view));
          if (!view) this.#views.set(keyOf(m.view), view = new View(m.view, this.#ticket, forget));
          tab = {post, after: m.after, joined: false, sent: 0, acked: 0};
          view.enter(tab, m.items);
          break;
        case 'ack':
          view?.acked(tab, m);
          break;
        case 'wake':
          view?.wake();
          break;
        case 'online':
          view?.renew();
          break;
        case 'detach':
          leave();
      }
    };
  }
}

/** View is one connection, opened anew whenever it ends, and the tabs that want what it brings. */
class View {
  #tabs = new Set();
  #ticket;
  #ended;
  #source = null;
  #attempt = 0; // tells an answer that comes late from the present one
  #timer;
  #ticks = 0;
  #due = 0; // when to open the next connection
  #held = false; // by a goodbye: not before it is due
  #fails = 0;
  #opened = 0;
  #heard = 0;
  #limit = HELLO;
  #state = {state: 'connecting', why: ''};

  #hello = null;
  #complete = false; // items are the view's whole state: a tab may join
  #reset = 'too_old'; // why a tab that can't be caught up begins again
  #items = new Map();
  #last = ''; // position behind the newest event
  #ring = []; // the newest events that have a position of their own
  #base = ''; // the position before them

  constructor({url, credentials}, ticket, ended) {
    this.url = url;
    this.credentials = credentials;
    this.#ticket = ticket;
    this.#ended = ended;
  }

  enter(tab, items) {
    this.#tabs.add(tab);
    if (!this.#timer) {
      // The first one. What it has from an earlier connection is where we go on.
      this.#last = this.#base = tab.after;
      for (const item of items ? JSON.parse(items) : []) this.#items.set(item.sym, item);
      this.#timer = setInterval(() => this.#tick(), TICK);
      this.#open();
    }
    this.#tell(tab);
    if (this.#complete) this.#join(tab);
  }

  leave(tab) {
    this.#tabs.delete(tab);
    if (this.#tabs.size === 0) this.#stop();
  }

  acked(tab, {n, after}) {
    tab.acked = n;
    tab.after = after;
    if (!tab.joined && this.#complete && tab.acked > tab.sent - ACK) this.#join(tab);
  }

  /** Somebody looks again: what is due should not wait for a timer that slept. */
  wake() {
    if (!this.#source && !this.#held) this.#due = 0;
    this.#tick();
  }

  /** The network is back: a connection from before may be dead without knowing. */
  renew() {
    if (this.#source && Date.now() - this.#opened > 2 * TICK) this.#open();
    else this.wake();
  }

  #stop() {
    clearInterval(this.#timer);
    this.#drop();
    this.#ended(this);
  }

  #drop() {
    this.#attempt++;
    this.#source?.close();
    this.#source = null;
  }

  #tick() {
    const now = Date.now();
    if (++this.#ticks % ALIVE === 0) for (const tab of this.#tabs) tab.post({ev: 'alive'});
    if (this.#source) {
      if (now - this.#heard <= this.#limit) return;
      this.#later('silent', this.#fails++ === 0 ? 0 : undefined);
    } else if (now >= this.#due) {
      this.#open();
    }
  }

  async #open() {
    this.#drop();
    const attempt = this.#attempt;
    this.#due = Date.now() + HELLO; // a ticket does not come for ever
    this.#held = false;
    let url;
    try {
      url = await this.#address();
    } catch {
      if (attempt === this.#attempt) this.#failed();
      return;
    }
    if (attempt !== this.#attempt) return; // it was closed, or opened again, in the meantime
    const source = this.#source = new EventSource(url, {withCredentials: this.credentials});
    this.#opened = this.#heard = Date.now();
    this.#limit = HELLO;
    for (const ev of EVENTS) {
      source.addEventListener(ev, (e) => source === this.#source && this.#on(ev, e.data, e.lastEventId));
    }
    source.onerror = () => {
      if (source !== this.#source) return;
      // EventSource would connect again by itself, but to the URL with an old position and ticket; and after an answer
      // that is not a stream it would not.
      if (source.readyState === EventSource.CLOSED) this.#ask();
      else this.#failed();
    };
  }

  async #address() {
    const url = new URL(this.url);
    url.searchParams.set('hb', 'event');
    if (this.#last) url.searchParams.set('lastEventId', this.#last);
    if (this.#ticket) url.searchParams.set('ticket', await this.#ticket());
    return url;
  }

  #failed() {
    this.#fails++;
    this.#later('connection');
  }

  /** Waits for the next connection. */
  #later(why, wait = between([LOST[0], Math.min(LONGEST, LOST[1] * 2 ** Math.max(0, this.#fails - 1))])) {
    this.#drop();
    this.#due = Date.now() + wait;
    if (this.#state.state !== 'connecting') this.#become('stale', why);
  }

  /** EventSource does not say what the answer was, so it is asked for again. */
  async #ask() {
    this.#failed();
    const attempt = this.#attempt;
    this.#due = Date.now() + 2 * HELLO;
    let answer;
    try {
      answer = await fetch(await this.#address(), {
        headers: {Accept: 'application/json'}, credentials: this.credentials ? 'include' : 'same-origin', signal: AbortSignal.timeout(HELLO),
      });
    } catch {
      if (attempt === this.#attempt) this.#later('connection');
      return;
    }
    const {status} = answer;
    const problem = await answer.json().catch(() => ({status, title: answer.statusText}));
    if (attempt !== this.#attempt) return;
    const elsewhere = status === 401 && this.#ticket && this.#fails < TICKETS; // a ticket is good at the edge that gave it
    if (status >= 400 && status < 500 && ![408, 425, 429].includes(status) && !elsewhere) {
      this.#stop();
      for (const tab of this.#tabs) tab.post({ev: 'end', data: JSON.stringify(problem)});
      return;
    }
    const seconds = Number(answer.headers.get('Retry-After')) || 0;
    this.#later('connection');
    this.#due = Math.max(this.#due, Date.now() + Math.min(seconds * 1000, 10 * LONGEST));
  }

  #become(state, why) {
    this.#state = {state, why};
    for (const tab of this.#tabs) this.#tell(tab);
  }

  #tell(tab) {
    tab.post({ev: 'state', data: JSON.stringify(this.#state)});
  }

  #on(ev, text, id) {
    this.#heard = Date.now();
    if (id) this.#last = id;
    if (ev === 'hb') return;
    const data = JSON.parse(text);
    if (!fold(this.#items, ev, data)) return;
    const m = {ev, data: text, id};
    switch (ev) {
      case 'hello':
        this.#hello = data;
        this.#limit = SILENT * data.hb_ms;
        this.#fails = 0;
        this.#complete = data.how === 'replay';
        break;
      case 'reset':
        this.#reset = data.why;
        this.#complete = false;
        break;
      case 'snapshot':
        this.#ring = [];
        this.#base = id;
        this.#complete = true;
        break;
      case 'trade':
      case 'gap':
        this.#keep(m);
        break;
      case 'bar':
        if (data.final) this.#keep(m);
    }
    for (const tab of this.#tabs) if (tab.joined) this.#forward(tab, m);
    if (ev === 'hello' && this.#complete || ev === 'snapshot') this.#begun();
    if (ev === 'goodbye') this.#goodbye(data);
  }

  #keep(m) {
    this.#ring.push(m);
    if (this.#ring.length > KEPT) this.#base = this.#ring.shift().id;
  }

  #begun() {
    this.#become('live', '');
    for (const tab of this.#tabs) if (!tab.joined) this.#join(tab);
  }

  #goodbye(data) {
    this.#later('goodbye', data.retry_ms > 0 ? Math.min(data.retry_ms, GOODBYE[1]) : between(GOODBYE));
    this.#held = true;
  }

  /** Lets a tab in, from where it stopped if that is still kept. */
  #join(tab) {
    const at = tab.after === this.#base ? 0 : this.#ring.findIndex((m) => m.id === tab.after) + 1;
    const how = tab.after && (at > 0 || tab.after === this.#base) ? 'replay' : 'snapshot';
    tab.joined = true;
    this.#post(tab, 'hello', {...this.#hello, how}, how === 'replay' ? tab.after : ''); // its place comes with the snapshot
    if (how === 'replay') {
      for (const m of this.#ring.slice(at)) this.#forward(tab, m);
      for (const item of this.#items.values()) this.#present(tab, item);
      return;
    }
    if (tab.after) this.#post(tab, 'reset', {why: this.#reset});
    this.#post(tab, 'snapshot', {ch: this.#hello.ch, iv: this.#hello.iv, items: [...this.#items.values()]}, this.#last);
  }

  /** What has no position of its own, and so is not kept: as it is now. */
  #present(tab, item) {
    const {sym, ep, seq, state, why} = item;
    this.#post(tab, 'status', {ev: 'status', ch: this.#hello.ch, sym, state, why, ep, seq}, this.#last);
    const open = item.bars?.find((b) => !b.final);
    if (open) this.#post(tab, 'bar', open, this.#last);
    for (const ev of ['ticker', 'bbo']) if (item[ev]) this.#post(tab, ev, item[ev], this.#last);
  }

  #post(tab, ev, data, id = '') {
    this.#forward(tab, {ev, data: JSON.stringify(data), id});
  }

  /** A tab that does not read gets nothing more until it has read what it was sent. */
  #forward(tab, m) {
    tab.post(m);
    if (++tab.sent - tab.acked > AHEAD) tab.joined = false;
  }
}

if (typeof SharedWorkerGlobalScope !== 'undefined' && self instanceof SharedWorkerGlobalScope) {
  const hub = new Hub();
  self.onconnect = ({ports: [port]}) => {
    const send = hub.connect((m) => port.postMessage(m));
    port.onmessage = (e) => send(e.data);
    port.addEventListener('close', () => send({op: 'detach'})); // the tab is gone without a word
  };
}
