package swarm

import (
	"fmt"

	"github.com/tickwire/tickwire/bench/target"
)

// dialect is what is special about a kind of server: what a client asks it for, and what its answer means. One serves all
// clients of a swarm; what is known of a client stands in the client. It is called for every message, and so allocates
// nothing then.
//
// A dialect calls Swarm.run when a client has everything that it asked for, Swarm.follow for each market message, and
// Swarm.gap or Report.GapNotices for what the server says is lost.
type dialect interface {
	// request appends the request line and the headers of the dialect's own, without the end of the last line. A client whose
	// connection before this one ended (client.lost) asks for what it missed, if the protocol has a way to.
	request(b []byte, c *client) []byte
	// opened takes the head of an answer with the right status, and begins with what follows it.
	opened(c *client, head []byte) error
}

// sockets is a dialect over WebSocket.
type sockets interface {
	dialect
	// message takes a text or a binary message, which is valid until it returns.
	message(c *client, opcode byte, payload []byte, now int64) error
}

// streams is a dialect over event streams.
type streams interface {
	dialect
	// look says what matters of the event that a reader has found. The same text is looked at once for all clients.
	look(r *stream) event
	// happened takes an event, which is valid until it returns.
	happened(c *client, e *event, now int64) error
}

// The opcodes of messages.
const (
	opText   = 1
	opBinary = 2
)

// upgrade is the headers of a WebSocket's request, behind the request line.
const upgrade = "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="

// speak chooses the dialect.
func (s *Swarm) speak() error {
	s.adopts = s.cfg.Protocol != ""
	other := rival{s}
	for t := range s.symbols.names {
		if s.adopts { // nobody tells the numbers, and so our publisher counts
			s.symbols.insts[uint32(t)+1] = t
		}
	}
	if s.cfg.SSE {
		switch s.cfg.Protocol {
		case "":
			s.streams = edgeStreams{s}
		case target.Floor:
			s.streams = floorStreams{edgeStreams{s}}
		case target.Mercure:
			s.streams = mercure{other}
		case target.Nchan:
			s.streams = nchanStreams{nchan{other}}
		default:
			return fmt.Errorf("protocol %q is not known to have event streams", s.cfg.Protocol)
		}
		s.dialect = s.streams
		return nil
	}
	switch s.cfg.Protocol {
	case "":
		s.sockets = edgeSockets{s}
	case target.Floor:
		s.sockets = floorSockets{edgeSockets{s}}
	case target.Centrifugo:
		s.sockets = &centrifugo{rival: other}
	case target.NATS:
		s.sockets = nats{other}
	case target.Nchan:
		s.sockets = nchanSockets{nchan{other}}
	case target.WS:
		s.sockets = broadcast{other}
	default:
		return fmt.Errorf("protocol %q is not known to have a WebSocket", s.cfg.Protocol)
	}
	s.dialect = s.sockets
	return nil
}
