// Package fanout carries topics to subscribers: one writer publishes a message once, and every connection that wants it
// gets the same bytes, in order, as fast as it can take them and no faster.
//
// # The idea
//
// Nothing is queued per subscriber. A [Topic] keeps a short shared history of its messages (a ring of [Entry]), the newest
// value of its state, and a notice about itself. A [Sub] is a cursor into that. Publishing appends to the ring and marks the
// subscribers; their connections are handed to their shards, and a shard, in one pass over each, gathers everything the
// connection is owed and writes it with one system call:
//
//	            Topic                       Sub: a cursor         Conn            shard: one loop
//	          ┌──────────────────────────┐
//	Publish ─►│ ring  … 41 42 43 44      │◄─── 44 ───────┐
//	          │                          │               ├──── marked: 2 ─────►  pass: gather into one buffer,
//	SetValue ►│ value  (the newest)      │◄─── 43 ───────┘                             one write(2)
//	          │                          │                                               │
//	SetNotice►│ notice (live, stale …)   │◄─── 41 ──── of a Conn that is parked          ├─ all taken: idle again
//	          └──────────────────────────┘             (its socket is full)              └─ some left: parked
//
// Under load a pass finds more to gather, so batches grow by themselves and the cost per message falls; FlushInterval makes
// them grow on purpose. A connection that can't be written to, because its transport is full or its flow window is used
// up, is left alone until it can; meanwhile its cursors stand still and cost nothing. What happens when it comes back is
// decided by the kind of the topic:
//
//   - [State] (a value): the newest value goes, the ones between are skipped;
//   - [Merge] (books): the entries between become one message, or a fresh snapshot when they are no longer in the ring;
//   - [Log] (trades, closed bars): every entry goes, in order; entries that left the ring are replaced by a gap message;
//   - [Replay] (streams of finished text): the same, but a snapshot takes the place of what left the ring.
//
// # Encode once
//
// An entry is published in one form, [Native]. Its other forms are made when the first subscriber wants one, and stay with
// the entry for all who follow: another [Format] by [Source], the form for permessage-deflate by this package (see
// [Conn.Deflate]; no context is taken over from one message to the next, or it could not be shared). All forms count
// against the ring's bytes.
//
// # Beats
//
// Heartbeats and pings go to everybody, and only the newest is worth sending. They are no topics: the hub has one frame of
// each ([Hub.SetBeat]), and a connection a bit that says it is due ([Conn.Beat]).
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
// milliseconds, on its own goroutine. It is also what tests with a fake clock run on.
//
// TLS connections are written to by the same shards: see [ServerTLS]. Their ciphertext is what a Writer has left, and
// alerts, which are the reading goroutine's, take the same way out.
//
// A hub has a goroutine for each shard, one for each poller in use, and one that sweeps; that is all.
//
// # Bounds
//
// A ring is bounded by count, bytes and age ([Limits]). A connection holds at most one gathered batch that its socket has
// not taken yet (MaxPass and one message), the rest of one snapshot, which is shared, and MaxControl bytes of control
// messages; a peer that makes us exceed the last is closed. TLS answers of its own to a peer that does not read are
// bounded by 4 KiB. A transport that takes nothing for WriteTimeout ends the connection. Each subscription is in a
// connection's list of marked ones at most once.
//
// # Who owns what
//
// A connection is scheduled or it is not (Conn.scheduled, under Conn.mu). Scheduled, it is in exactly one of three places:
// its shard's queue, a pass, or the parking; whoever has it owns the fields that belong to the pass, without a lock. The
// writer of a topic and the goroutine that reads a client only mark, queue and schedule.
//
// # Locks
//
// They nest in this order and no other: the publisher's own lock (which Source.Snapshot takes too), Topic.mu, Conn.mu,
// shard.mu; parking.mu is taken alone. Entry.mu, held while a message is encoded, comes before Topic.mu. A pass holds none
// of the others while it encodes, merges, cuts a snapshot or writes.
//
// # Where to read
//
// topic.go (what is published), sub.go (what a subscriber is owed), pass.go (gather and write), shard.go (the loop), conn.go
// (one connection, its flow window), parking.go and epoll_linux.go (full transports), writer.go and tls.go, frame.go and
// deflate.go (bytes).
package fanout
