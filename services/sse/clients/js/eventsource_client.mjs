// npm's eventsource, which connects again by itself. Prints what it gets, a line of JSON for each event, until stdin ends.
import {EventSource} from 'eventsource';

const EVENTS = ['hello', 'snapshot', 'trade', 'gap', 'bar', 'ticker', 'bbo', 'status', 'reset', 'goodbye', 'hb', 'message'];

process.argv.slice(2).forEach((url, s) => {
  const source = new EventSource(url);
  for (const ev of EVENTS) source.addEventListener(ev, (e) => console.log(JSON.stringify({s, ev, id: e.lastEventId, data: e.data})));
  source.addEventListener('error', (e) => console.error(`${s}: ${e.code ?? ''} ${e.message ?? ''}`));
});

process.stdin.resume().on('end', () => process.exit(0));
