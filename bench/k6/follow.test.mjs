import assert from 'node:assert/strict';
import test from 'node:test';
import { begin, follow } from './follow.js';

const ep = 7;

test('trades', () => {
  const place = {};
  begin(place, { ch: 'trades', ep, seq: 4 });
  const f = (want, m) => assert.equal(follow(place, { t: 'trade', ep, ...m }), want);
  f('new', { prev: 4, seq: 5 });
  f('again', { prev: 4, seq: 5 });
  f('gap', { prev: 6, seq: 7 });
  f('new', { prev: 7, seq: 8 });
  f('lost', { t: 'gap', prev: 8, seq: 20 });
  f('new', { prev: 20, seq: 21 });
  f('again', { ep: 6, prev: 90, seq: 91 });
  f('gap', { ep: 8, prev: 0, seq: 1 });
  assert.deepEqual(place, { ep: 8, seq: 1 });
});

test('books', () => {
  const place = {};
  begin(place, { ch: 'book', ep, seq: 10 });
  const f = (want, m) => assert.equal(follow(place, { t: 'u', ep, ...m }), want);
  f('begin', { t: 's', part: 1, of: 2, prev: 9, seq: 10 });
  assert.deepEqual(place, {});
  f('begin', { t: 's', part: 2, of: 2, prev: 9, seq: 10 });
  f('new', { prev: 10, seq: 12 });
  f('new', { prev: 11, seq: 14 }); // merged: an overlap is no gap
  f('gap', { prev: 15, seq: 16 });
  f('begin', { t: 's', prev: 15, seq: 17 });
  f('new', { prev: 17, seq: 18 });
});

test('nobody said where it begins', () => {
  const place = {};
  assert.equal(follow(place, { t: 'trade', ep, prev: 4, seq: 5 }), 'new');
  assert.equal(follow(place, { t: 'trade', ep, prev: 5, seq: 6 }), 'new');
});
