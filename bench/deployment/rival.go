package deployment

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/tickwire/tickwire/bench/target"
)

// Rival is what has to be known of a running server that is not ours. Its clients go to --ws or --sse.
type Rival struct {
	Protocol         string // that it speaks, one of target.Rivals; "" is a server of ours
	Publish          string // URL that messages are published to; without it somebody else publishes
	PublishKey       string // that it wants for it
	TopicName        string // what it calls a topic; see target.TopicName
	SubscribeMessage string // that clients of a plain broadcast send first
}

// RegisterFlags adds a flag for each field.
func (r *Rival) RegisterFlags(f *pflag.FlagSet) {
	f.StringVar(&r.Protocol, "protocol", "", "that the running server at --ws or --sse speaks, when it is not Tickwire: `"+strings.Join(target.Rivals, "|")+"`")
	f.StringVar(&r.Publish, "publish", "", "`URL` that messages are published to, with --protocol: Centrifugo's and Mercure's http://HOST:PORT, nats://HOST:PORT, nchan's http://HOST:PORT/PATH/{topic}, ws://HOST:PORT/PATH; without it somebody else publishes")
	f.StringVar(&r.PublishKey, "publish-key", "", "`KEY` that the server wants from publishers: Centrifugo's API key, Mercure's token or secret, NATS's token or USER:PASSWORD, or else a bearer's token")
	f.StringVar(&r.TopicName, "topic-name", "", "what the server calls a topic, such as `md:{topic}`; by default the instrument's symbol")
	f.StringVar(&r.SubscribeMessage, "subscribe-message", "", "`TEXT` that clients send first, with --protocol ws; with {topic} in it, once for each topic")
}

// schemes are what --publish begins with.
var schemes = map[string][]string{
	target.Centrifugo: {"http", "https"},
	target.Mercure:    {"http", "https"},
	target.Nchan:      {"http", "https"},
	target.NATS:       {"nats", "tls"},
	target.WS:         {"ws", "wss"},
}

// ValidateRival says what is wrong with the flags of a server that is not ours, for clients of event streams or of a
// WebSocket.
func (c *Config) ValidateRival(sse bool) error {
	r := &c.Rival
	if r.Protocol == "" {
		if *r != (Rival{}) {
			return errors.New("--publish, --publish-key, --topic-name and --subscribe-message: only with --protocol")
		}
		return nil
	}
	flag, addr := "--ws", c.WS
	if sse {
		flag, addr = "--sse", c.SSE
	}
	switch {
	case !slices.Contains(target.Rivals, r.Protocol):
		return fmt.Errorf("--protocol: %q is none of %s", r.Protocol, strings.Join(target.Rivals, ", "))
	case len(c.Kafka.Brokers) > 0:
		return fmt.Errorf("--kafka: not with --protocol %s", r.Protocol)
	case sse && r.Protocol != target.Mercure && r.Protocol != target.Nchan:
		return fmt.Errorf("--protocol: %s is measured by its WebSocket, not by event streams", r.Protocol)
	case !sse && r.Protocol == target.Mercure:
		return fmt.Errorf("--protocol: %s has event streams, and no WebSocket", r.Protocol)
	case addr == "":
		return fmt.Errorf("%s: the URL of the running server is needed with --protocol %s", flag, r.Protocol)
	case r.Protocol == target.Nchan && !strings.Contains(addr, target.TopicMark):
		return fmt.Errorf("%s: %q has no %s in it, where the topics go", flag, addr, target.TopicMark)
	case r.TopicName != "" && !strings.Contains(r.TopicName, target.TopicMark):
		return fmt.Errorf("--topic-name: %q has no %s in it", r.TopicName, target.TopicMark)
	case r.SubscribeMessage != "" && r.Protocol != target.WS:
		return fmt.Errorf("--subscribe-message: only with --protocol %s", target.WS)
	case r.Publish == "" && r.PublishKey != "":
		return errors.New("--publish-key: only with --publish")
	case r.Publish == "":
		return nil
	}
	u, err := url.Parse(r.Publish)
	if err != nil {
		return fmt.Errorf("--publish: %w", err)
	}
	switch known := schemes[r.Protocol]; {
	case !slices.Contains(known, u.Scheme) || u.Host == "":
		return fmt.Errorf("--publish: %q is no %s:// URL", r.Publish, strings.Join(known, ":// or "))
	case u.User != nil:
		return errors.New("--publish: a URL without a user; --publish-key is for that")
	case r.Protocol == target.Nchan && !strings.Contains(r.Publish, target.TopicMark):
		return fmt.Errorf("--publish: %q has no %s in it, where the topic goes", r.Publish, target.TopicMark)
	}
	return nil
}

// secure tells whether TLS is, or may be, on the way to publish. A server of NATS may ask for it.
func (r *Rival) secure() bool {
	return r.Protocol == target.NATS || strings.HasPrefix(r.Publish, "https:") || strings.HasPrefix(r.Publish, "wss:")
}

// Aim has a publisher publish to the running server, if it is not ours: to clients at that URL.
func (r *Rival) Aim(t *target.Config) {
	if r.Publish != "" {
		t.Kind = r.Protocol
	}
	t.Publish, t.PublishKey, t.TopicName = r.Publish, r.PublishKey, r.TopicName
}
