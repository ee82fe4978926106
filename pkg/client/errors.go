package client

import (
	"errors"
	"fmt"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// Errors that a caller may want to tell apart.
var (
	// ErrClosed is the end of a client that was closed, and of the subscriptions it had.
	ErrClosed = errors.New("client: closed")
	// ErrUnsubscribed is the end of a subscription that the caller gave up.
	ErrUnsubscribed = errors.New("client: unsubscribed")
	// ErrSubscribed refuses a second subscription to one topic: a connection has one view of each.
	ErrSubscribed = errors.New("client: already subscribed to this topic")
	// ErrSilent ends a connection on which nothing arrived for Config.HeartbeatTimeout.
	ErrSilent = errors.New("client: nothing heard from the edge")
	// ErrProtocol ends a connection on which something arrived that can't be understood.
	ErrProtocol = errors.New("client: message can't be understood")
)

// HandshakeError is an edge's refusal to open a WebSocket.
type HandshakeError struct {
	Status     int // HTTP status
	RetryAfter time.Duration
	Err        error
}

func (e *HandshakeError) Error() string {
	return fmt.Sprintf("client: handshake answered with status %d: %v", e.Status, e.Err)
}
func (e *HandshakeError) Unwrap() error { return e.Err }

// CloseError is the edge's close of a connection.
type CloseError struct {
	Code   uint16 // RFC 6455's or, from 4000, the protocol's
	Reason string
}

func (e *CloseError) Error() string {
	return fmt.Sprintf("client: the edge closed the connection: %d %s", e.Code, closeText(e))
}

func closeText(e *CloseError) string {
	if e.Reason != "" {
		return e.Reason
	}
	switch e.Code {
	case wire.ClosePolicy:
		return "not allowed"
	case wire.CloseAuthExpired:
		return "token expired"
	case wire.CloseRate:
		return "too many requests"
	case wire.CloseTooManyTopics:
		return "too many topics"
	case wire.CloseSlowConsumer:
		return "slow consumer"
	case wire.CloseNoSubscription:
		return "no subscription"
	case wire.CloseConnectionLimit:
		return "too many connections"
	}
	return ""
}

// RefusedError is the edge's refusal of one subscription or request. Code is the protocol's: unknown_symbol, forbidden,
// too_many_topics and so on.
type RefusedError struct {
	Topic string
	Code  wire.Code
	Msg   string
}

func (e *RefusedError) Error() string {
	s := "client: "
	if e.Topic != "" {
		s += e.Topic + ": "
	}
	if s += string(e.Code); e.Msg != "" {
		s += ": " + e.Msg
	}
	return s
}

// GapError says that messages are missing between what was applied and what came next. A book is fetched anew after it;
// trades and final bars are asked for again.
type GapError struct {
	Local market.Sequence // last one applied
	Prev  market.Sequence // what the message followed
}

func (e *GapError) Error() string {
	return fmt.Sprintf("client: gap: at %v, next message follows %v", e.Local, e.Prev)
}

// HashError says that a local book differs from the edge's at the same sequence. The book is fetched anew after it.
type HashError struct {
	At        market.Sequence
	Got, Want uint64
}

func (e *HashError) Error() string {
	return fmt.Sprintf("client: book hash at %v is %016x, the edge's is %016x", e.At, e.Got, e.Want)
}

// fatal tells whether connecting again can't help, so that it would only hammer the edge.
func (c *Client) fatal(err error) bool {
	var closed *CloseError
	if errors.As(err, &closed) {
		switch closed.Code {
		case wire.CloseAuthExpired:
			return c.cfg.Token == nil
		case wire.CloseRate, wire.CloseSlowConsumer, wire.CloseNoSubscription, wire.CloseConnectionLimit:
			return false
		case wire.ClosePolicy, wire.CloseTooBig:
			return true
		}
		return closed.Code >= 4000
	}
	var shake *HandshakeError
	if errors.As(err, &shake) {
		switch shake.Status {
		case 408, 425, 429:
			return false
		}
		return shake.Status >= 400 && shake.Status < 500
	}
	return false
}
