// Chromium: its own EventSource, which connects again by itself; with --module the browsers' module, loaded from the edge.
// Prints what it gets, a line of JSON for each event, until stdin ends.
import {launch} from './chromium.mjs';

const EVENTS = ['hello', 'snapshot', 'trade', 'gap', 'bar', 'ticker', 'bbo', 'status', 'reset', 'goodbye', 'hb', 'message'];
const asModule = process.argv.includes('--module');
const urls = process.argv.slice(2).filter((arg) => arg !== '--module');

const browser = await launch();
const page = await browser.newPage();
page.on('console', (m) => console.error(m.text()));
page.on('pageerror', (e) => console.error(e));
await page.exposeFunction('emit', (line) => console.log(line));

// A page of the edge's own origin, so that the module may have its shared worker; the edge has no page of its own to serve.
const {origin} = new URL(urls[0]);
await page.route(`${origin}/`, (route) => route.fulfill({contentType: 'text/html', body: '<!doctype html><title>t</title>'}));
await page.goto(`${origin}/`);

if (asModule) {
  await page.evaluate(async ({urls, EVENTS}) => {
    let module;
    // That connection may be cut too; where it is cut within the header, Chromium takes what came for all of the file.
    while (!module?.TickwireSSE) module = await import(`/tickwire-sse.js?try=${Math.random()}`).catch(() => null);
    urls.forEach((url, s) => {
      const {pathname, searchParams: q} = new URL(url);
      const stream = new module.TickwireSSE(pathname.split('/').pop(), {
        symbols: q.get('symbols').split(','), rate: q.get('rate') ?? undefined, iv: q.get('iv') ?? undefined,
      });
      for (const ev of EVENTS) stream.addEventListener(ev, (e) => window.emit(JSON.stringify({s, ev, id: e.lastEventId, data: JSON.stringify(e.data)})));
    });
  }, {urls, EVENTS});
} else {
  await page.evaluate(({urls, EVENTS}) => {
    const follow = (url, s, last) => {
      const source = new EventSource(last ? `${url}&lastEventId=${encodeURIComponent(last)}` : url);
      for (const ev of EVENTS) {
        source.addEventListener(ev, (e) => {
          last = e.lastEventId || last;
          window.emit(JSON.stringify({s, ev, id: e.lastEventId, data: e.data}));
        });
      }
      // It comes back by itself, unless a connection ends within the header, by FIN and without TLS: then Chromium takes the
      // answer for something that is no stream, and ends for good.
      source.onerror = () => source.readyState === EventSource.CLOSED && setTimeout(follow, 3_000, url, s, last);
    };
    urls.forEach((url, s) => follow(url, s, ''));
  }, {urls, EVENTS});
}

process.stdin.resume().on('end', async () => {
  await browser.close();
  process.exit(0);
});
