package deployment

import (
	"strings"
	"testing"

	"github.com/tickwire/tickwire/bench/target"
	"github.com/tickwire/tickwire/services/all"
)

func TestValidateRival(t *testing.T) {
	const ws, sse = "ws://127.0.0.1:1", "http://127.0.0.1:1"
	f := func(want string, c Config, streams bool) {
		t.Helper()
		err := c.ValidateRival(streams)
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)) {
			t.Errorf("%+v, streams %v: %v, want %q", c, streams, err, want)
		}
	}
	f("", Config{}, false)
	f("", Config{WS: ws, Rival: Rival{Protocol: target.NATS}}, false)
	f("", Config{WS: ws, Rival: Rival{Protocol: target.NATS, Publish: "nats://127.0.0.1", TopicName: "md.{topic}"}}, false)
	f("", Config{WS: ws + "/{topic}", Rival: Rival{Protocol: target.Nchan, Publish: sse + "/{topic}"}}, false)
	f("", Config{SSE: sse + "/{topic}", Rival: Rival{Protocol: target.Nchan}}, true)
	f("", Config{SSE: sse, Rival: Rival{Protocol: target.Mercure, Publish: sse, PublishKey: "x"}}, true)
	f("--publish", Config{WS: ws, Rival: Rival{Publish: sse}}, false)
	f("--protocol", Config{WS: ws, Rival: Rival{Protocol: "smoke"}}, false)
	f("--protocol", Config{SSE: sse, Rival: Rival{Protocol: target.Centrifugo}}, true)
	f("--protocol", Config{WS: ws, Rival: Rival{Protocol: target.Mercure}}, false)
	f("--kafka", Config{WS: ws, Kafka: all.Kafka{Brokers: []string{"x"}}, Rival: Rival{Protocol: target.WS}}, false)
	f("--ws", Config{SSE: sse, Rival: Rival{Protocol: target.WS}}, false)
	f("--ws", Config{WS: ws, Rival: Rival{Protocol: target.Nchan}}, false)
	f("--sse", Config{WS: ws, Rival: Rival{Protocol: target.Mercure}}, true)
	f("--topic-name", Config{WS: ws, Rival: Rival{Protocol: target.NATS, TopicName: "md"}}, false)
	f("--subscribe-message", Config{WS: ws, Rival: Rival{Protocol: target.NATS, SubscribeMessage: "x"}}, false)
	f("--publish-key", Config{WS: ws, Rival: Rival{Protocol: target.NATS, PublishKey: "x"}}, false)
	f("--publish: ", Config{WS: ws, Rival: Rival{Protocol: target.NATS, Publish: sse}}, false)
	f("--publish: ", Config{WS: ws, Rival: Rival{Protocol: target.NATS, Publish: "nats://u:p@127.0.0.1"}}, false)
	f("--publish: ", Config{WS: ws, Rival: Rival{Protocol: target.Centrifugo, Publish: "http://"}}, false)
	f("--publish: ", Config{WS: ws + "/{topic}", Rival: Rival{Protocol: target.Nchan, Publish: sse}}, false)
}
