package swarm

import "fmt"

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

// Floor is the protocol of target.Floor.
const Floor = "floor"

// speak chooses the dialect.
func (s *Swarm) speak() error {
	switch edge := (edgeSockets{s}); {
	case s.cfg.Protocol == "" && s.cfg.SSE:
		s.streams = edgeStreams{s}
	case s.cfg.Protocol == "":
		s.sockets = edge
	case s.cfg.Protocol == Floor && s.cfg.SSE:
		s.streams, s.adopts = floorStreams{edgeStreams{s}}, true
	case s.cfg.Protocol == Floor:
		s.sockets, s.adopts = floorSockets{edge}, true
	default:
		return fmt.Errorf("protocol %q is not known", s.cfg.Protocol)
	}
	if s.dialect = s.sockets; s.sockets == nil {
		s.dialect = s.streams
	}
	return nil
}
