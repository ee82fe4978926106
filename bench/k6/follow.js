// What a client of the WebSocket edge has to know of a topic's messages: whether one follows what it has. No imports, so that
// it runs anywhere.

/**
 * Place is how far a client has come with a topic: {ep, seq}, and nothing before the first message.
 * follow moves it on and says what a message was: 'new', 'again' (there already), 'gap' (something is missing before it),
 * 'lost' (the server says that something is missing) or 'begin' (a whole book). docs/PROTOCOL.md, section 2.
 */
export function follow(place, m) {
  if (m.t === 'gap') {
    move(place, m);
    return 'lost';
  }
  if (m.t === 's') {
    if (m.part !== m.of) {
      return 'begin'; // it counts when its last part is there
    }
    move(place, m);
    return 'begin';
  }
  if (place.ep === undefined) {
    move(place, m); // nothing said where the topic begins
    return 'new';
  }
  if (m.ep < place.ep || (m.ep === place.ep && m.seq <= place.seq)) {
    return 'again';
  }
  const follows = m.ep === place.ep && m.prev <= place.seq;
  move(place, m);
  return follows ? 'new' : 'gap';
}

/** begin takes a topic's place from the answer to a subscription: trades go on from there, a book begins by its snapshot. */
export function begin(place, row) {
  if (row.ch !== 'book') {
    move(place, row);
  }
}

function move(place, m) {
  place.ep = m.ep;
  place.seq = m.seq;
}
