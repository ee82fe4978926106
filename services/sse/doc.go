// Package sse is the edge for everyone: public tickers, trades and bars as Server-Sent Events, and the REST API beside them,
// as docs/PROTOCOL.md says.
//
// # A stream
//
// What a client asks for, in canonical form, is a [view]: a channel, its symbols, a rate. All clients of a view share one
// log of chunks, each rendered once as it goes over the wire. A client is a cursor into that log: the log is a topic of a
// fanout.Hub, and the client a connection of it. fasthttp reads the request; then the connection is taken away from it
// (hijacked), and costs no goroutine any more. A watcher sees when the peer hangs up.
package sse
