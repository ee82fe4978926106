// Package client is the Go SDK of Tickwire's WebSocket: subscriptions that survive the connection, and local order books
// that provably equal the edge's.
//
//	c, err := client.Dial(ctx, client.Config{URL: "ws://127.0.0.1:8081"})
//	if err != nil {
//		return err
//	}
//	defer c.Close()
//	b, err := c.Book("BTC-USDT", client.BookView{})
//	if err != nil {
//		return err
//	}
//	if err := b.Wait(ctx); err != nil { // complete, or refused
//		return err
//	}
//	bid, ask := b.BBO()
//
// # Two ways to read
//
// A subscription ([Book], [Trades], [BBO], [Ticker], [Bars], [Status]) can be asked at any time, from any goroutine, for what
// it holds; what it answers is always of one instant. Or the callbacks of [Handler] are told of each message: all of one
// client on one goroutine, in the order of the stream, after the subscription has taken the message in.
//
// # What can be relied on
//
// A book follows the protocol's rule: an update at or before its place is ignored, one that overlaps or follows is
// applied, anything else is a gap. Behind each update its hash is compared with the edge's. After a gap or a mismatch, which
// are counted and reported, the book is fetched anew, the connection stays, and updates are dropped until the snapshot is
// complete. Trades and final bars come once and in order; when some are missing the edge is asked for them, and only
// what it can't send again is said to be lost.
//
// [Topic.State] is the word on how far that goes at this moment, and [Topic.StaleFor] for how long it does not. Without a
// word from the edge for Config.HeartbeatTimeout everything is stale, also while a callback is slow.
//
// # Connections
//
// A lost connection is made again after a random wait that grows (full jitter), to whatever edge the address then leads to,
// and each subscription goes on from its place. An edge that is about to stop says when to come back, and is obeyed; one
// that says that coming back is of no use (a revoked key, an unknown path) ends the client, see [Client.Run].
//
// # Slow callbacks
//
// By default the edge may send at most 64 KiB that the callbacks have not dealt with; it then conflates: books merge, values
// skip, trades say what is missing. So a slow reader works on present data, not on what its kernel's buffers kept.
// The window grows up to 1 MiB while the callbacks keep up.
package client
