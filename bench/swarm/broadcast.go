package swarm

import (
	"strings"

	"github.com/tickwire/tickwire/bench/target"
)

// broadcast is a WebSocket whose every message is one of ours. A client may have to say what it wants, in messages of which
// nothing but Config.SubscribeMessage is known.
type broadcast struct{ rival }

func (d broadcast) request(b []byte, _ *client) []byte { return append(d.get(b, "/"), upgrade...) }

// opened says what the client wants: once, or once for each of its topics. There is no answer to wait for.
func (d broadcast) opened(c *client, _ []byte) error {
	d.anew(c)
	ask := d.s.cfg.SubscribeMessage
	switch {
	case ask == "":
	case strings.Contains(ask, target.TopicMark):
		for _, name := range d.names(c) {
			if err := send(c, opText, []byte(strings.ReplaceAll(ask, target.TopicMark, name))); err != nil {
				return err
			}
		}
	default:
		if err := send(c, opText, []byte(ask)); err != nil {
			return err
		}
	}
	d.s.run(c)
	return nil
}

func (d broadcast) message(c *client, _ byte, payload []byte, now int64) error {
	d.payload(c, payload, now)
	return nil
}
