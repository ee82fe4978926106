// Package fanout carries topics to subscribers: one writer publishes a message once, and every connection that wants it
// gets the same bytes, in order, as fast as it can take them and no faster.
//
// # The idea
//
// Nothing is queued per subscriber. A [Topic] keeps a short shared history of its messages (a ring of [Entry]), the newest
// value of its state, and a notice about itself. A [Sub] is a cursor into that. Publishing appends to the ring and marks the
// subscribers; a marked connection is handed to its shard, and the shard, in one pass, gathers everything the connection is
// owed and writes it with one system call:
//
//	writer ── Publish ──► ring ◄── cursors ── pass: gather, one write ──► socket
//	             │                              ▲
//	             └─ mark subscriber → connection → shard
//
// Under load a pass finds more to gather, so batches grow by themselves and the cost per message falls. A connection that
// can't be written to is left alone until it can; meanwhile its cursors stand still and cost nothing. What happens when
// it comes back is decided by the kind of the topic:
//
//   - state (a value): the newest value goes, the ones between are skipped;
//   - [Merge] (books): the entries between become one message, or a fresh snapshot when they are no longer in the ring;
//   - [Log] (trades, closed bars): every entry goes, in order; entries that left the ring are replaced by a gap message.
//
// # Transports
//
// Nothing here ever waits for a peer, and no connection has a goroutine or a timer for writing. What a transport does not
// take at once stays with its [Writer], and the connection is parked:
//
//	shard ── Write: some is left ──► parking ── poller: it takes something again ──► shard: Flush, next pass
//	                                    │
//	                                    └── sweep: no progress for WriteTimeout ──► closed
//
// There are two pollers. On Linux, sockets are watched by an epoll instance of the hub's own, one event at a time, which
// names the connection by a number that is never used again: whatever became of the descriptor meanwhile, an event that
// comes late finds nothing. Everywhere else, and for connections in memory, the portable one tries again every few
// milliseconds, on its own goroutine.
//
// TLS connections are written to by the same shards: see [ServerTLS]. Their ciphertext is what a Writer has left, and
// alerts, which are the reading goroutine's, take the same way out.
//
// # Bounds
//
// A ring is bounded by count, bytes and age ([Limits]). A connection holds at most one gathered batch that its socket has
// not taken yet (MaxPass and one message), the rest of one snapshot, which is shared, and MaxControl bytes of control
// messages; a peer that makes us exceed the last is closed. A transport that takes nothing for WriteTimeout ends the
// connection. Each subscription is in a connection's list of marked ones at most once.
//
// # Locks
//
// They nest in this order and no other: the publisher's own lock (which Source.Snapshot takes too), Topic.mu, Conn.mu,
// shard.mu; parking.mu is taken alone. Entry.mu, held while a message is encoded, comes before Topic.mu. A pass holds none
// of the others while it encodes, merges, cuts a snapshot or writes.
package fanout
