package swarm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
)

// centrifugo is Centrifugo's client protocol in JSON: commands and replies, and pushes between them. A message of the
// WebSocket has one or several, each on a line of its own. A channel with history gives each publication an offset, within an
// epoch; from there on a client that comes back gets what it missed.
type centrifugo struct {
	rival
	pongs  bool              // the server wants its pings answered, as it has said when a client connected
	epochs map[string]string // that there are, by themselves: all clients of a topic have the same one
}

// mark is how far a client has come with a topic, in the server's own count.
type mark struct {
	epoch  string
	offset uint64
}

func (d *centrifugo) request(b []byte, _ *client) []byte {
	return append(d.get(b, "/connection/websocket"), upgrade...)
}

// Commands.
type (
	centrifugoConnect struct {
		Token string `json:"token,omitempty"`
	}
	centrifugoSubscribe struct {
		Channel string `json:"channel"`
		Recover bool   `json:"recover,omitempty"`
		Epoch   string `json:"epoch,omitempty"`
		Offset  uint64 `json:"offset,omitempty"`
	}
	centrifugoCommand struct {
		ID        int                  `json:"id"` // of a subscription: 2 and the topic's place among the client's
		Connect   *centrifugoConnect   `json:"connect,omitempty"`
		Subscribe *centrifugoSubscribe `json:"subscribe,omitempty"`
	}
)

const firstSubscription = 2

func (d *centrifugo) opened(c *client, _ []byte) error {
	return d.send(c, centrifugoCommand{ID: 1, Connect: &centrifugoConnect{Token: d.s.cfg.Token}})
}

func (d *centrifugo) send(c *client, commands ...centrifugoCommand) error {
	var b []byte
	for i := range commands {
		line, err := json.Marshal(&commands[i])
		if err != nil {
			return err
		}
		b = append(append(b, line...), '\n')
	}
	return send(c, opText, bytes.TrimSuffix(b, []byte{'\n'}))
}

func (d *centrifugo) message(c *client, _ byte, payload []byte, now int64) error {
	for len(payload) > 0 {
		var line []byte
		line, payload, _ = bytes.Cut(payload, []byte{'\n'})
		if len(line) == 0 {
			continue
		}
		if err := d.line(c, line, now); err != nil {
			return err
		}
	}
	return nil
}

func (d *centrifugo) line(c *client, b []byte, now int64) error {
	const push, data = `{"push":{"channel":"`, `"pub":{"data":`
	switch {
	case bytes.HasPrefix(b, []byte(push)):
		if i := bytes.Index(b, []byte(data)); i >= 0 {
			d.publication(c, b[i+len(data):], now)
			return nil
		}
		return d.notice(b)
	case string(b) == "{}":
		if d.pongs {
			return send(c, opText, []byte("{}"))
		}
		return nil
	case bytes.HasPrefix(b, []byte(`{"push":`)):
		return d.notice(b)
	}
	return d.reply(c, b, now)
}

// publication takes one of our messages and the offset behind it.
func (d *centrifugo) publication(c *client, b []byte, now int64) {
	const key = `"offset":`
	topic := d.s.json(c, b, now)
	i := bytes.LastIndex(b, []byte(key))
	if at := slices.Index(c.topics, topic); i >= 0 && at >= 0 && at < len(c.marks) {
		c.marks[at].offset, _ = after(b[i:], key)
	}
}

// notice takes a push that is no publication. Those that end a subscription, or the connection, leave the client without what
// it asked for.
func (d *centrifugo) notice(b []byte) error {
	var m struct {
		Push struct {
			Unsubscribe *json.RawMessage `json:"unsubscribe"`
			Disconnect  *json.RawMessage `json:"disconnect"`
		} `json:"push"`
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return fmt.Errorf("a push: %w", err)
	}
	if m.Push.Unsubscribe != nil || m.Push.Disconnect != nil {
		return fmt.Errorf("sent away: %.200s", b)
	}
	return nil
}

// intern returns an equal text that all clients share.
func (d *centrifugo) intern(epoch string) string {
	if one, ok := d.epochs[epoch]; ok {
		return one
	}
	if d.epochs == nil || len(d.epochs) > maxInflated {
		d.epochs = map[string]string{}
	}
	d.epochs[epoch] = epoch
	return epoch
}

type centrifugoReply struct {
	ID      int              `json:"id"`
	Error   *json.RawMessage `json:"error"`
	Connect *struct {
		Pong bool `json:"pong"`
	} `json:"connect"`
	Subscribe *struct {
		Epoch        string `json:"epoch"`
		Offset       uint64 `json:"offset"`
		Recovered    bool   `json:"recovered"`
		Publications []struct {
			Data   json.RawMessage `json:"data"`
			Offset uint64          `json:"offset"`
		} `json:"publications"`
	} `json:"subscribe"`
}

func (d *centrifugo) reply(c *client, b []byte, now int64) error {
	var m centrifugoReply
	if err := json.Unmarshal(b, &m); err != nil {
		return fmt.Errorf("a reply: %w", err)
	}
	at := m.ID - firstSubscription
	switch {
	case m.Error != nil:
		return fmt.Errorf("refused: %.200s", b)
	case m.Connect != nil && c.state == greeting:
		d.pongs = m.Connect.Pong
		return d.subscribe(c)
	case m.Subscribe == nil || at < 0 || at >= len(c.topics) || c.state != asking || c.acks == 0:
		return fmt.Errorf("unasked: %.100s", b)
	}
	topic := c.topics[at]
	if c.lost > 0 && c.seqs[topic] > 0 && !m.Subscribe.Recovered {
		d.s.report.GapNotices++ // what is missing does not come
		c.seqs[topic] = 0
	}
	if c.acks--; c.acks == 0 {
		d.s.run(c) // what was recovered may make the client ready
	}
	c.marks[at] = mark{epoch: d.intern(m.Subscribe.Epoch), offset: m.Subscribe.Offset}
	for _, p := range m.Subscribe.Publications {
		d.s.json(c, p.Data, now)
		c.marks[at].offset = p.Offset
	}
	return nil
}

// subscribe asks for the client's topics, from its place on if it has one.
func (d *centrifugo) subscribe(c *client) error {
	c.state, c.acks = asking, len(c.topics)
	if c.marks == nil {
		c.marks = make([]mark, len(c.topics))
	}
	var commands []centrifugoCommand
	for i, t := range c.topics {
		ask := &centrifugoSubscribe{Channel: d.name(t)}
		if m := &c.marks[i]; c.lost > 0 && c.seqs[t] > 0 && m.epoch != "" {
			ask.Recover, ask.Epoch, ask.Offset = true, m.epoch, m.offset
		}
		commands = append(commands, centrifugoCommand{ID: firstSubscription + i, Subscribe: ask})
		if len(commands) == d.s.symbols.batch || i == len(c.topics)-1 {
			if err := d.send(c, commands...); err != nil {
				return err
			}
			commands = commands[:0]
		}
	}
	return nil
}
