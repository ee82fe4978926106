package target

import (
	"errors"
	"fmt"
	"strings"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// The kinds of servers that are not ours and run elsewhere. This process publishes to them, each in its own way.
const (
	Centrifugo = "centrifugo"
	NATS       = "nats"
	Mercure    = "mercure"
	Nchan      = "nchan"
	WS         = "ws" // a plain WebSocket that sends to all what it gets from one
)

// Rivals are those kinds.
var Rivals = []string{Centrifugo, NATS, Mercure, Nchan, WS}

// Counters of what is published to servers elsewhere.
const (
	Sent  = "published_total"     // messages that the server has taken
	Waits = "publish_waits_total" // times that the schedule waited for room in a queue
)

// TopicMark stands for a topic's name in URLs and names.
const TopicMark = "{topic}"

// TopicName is what a server calls a topic, by a template such as md:{topic}; an empty one means the symbol itself.
func TopicName(template, sym string) string {
	if template == "" {
		return sym
	}
	return strings.ReplaceAll(template, TopicMark, sym)
}

// rival publishes our messages to another server.
type rival struct {
	pipe
	subscribe string
	names     []string // of the topics
	topics    []topic
	json      bool
	hangUp    func() error // nil when there is no connection to end

	// Of publish alone.
	trade market.Trade
	delta market.Delta
	buf   []byte
}

// startRival connects to the server, if publishing to it needs a connection of its own.
func startRival(cfg *Config, m *maker) (_ *rival, err error) {
	r := &rival{subscribe: cfg.Subscribe, topics: m.topics, json: !cfg.Binary}
	for i := range m.topics {
		r.names = append(r.names, TopicName(cfg.TopicName, m.topics[i].inst.Sym))
	}
	if cfg.Binary && (cfg.SSE || cfg.Kind == Centrifugo || cfg.Kind == Mercure) {
		return nil, fmt.Errorf("%s carries text here, and SBE is none", cfg.Kind)
	}
	switch cfg.Kind {
	case Centrifugo:
		err = r.toCentrifugo(cfg)
	case Mercure:
		err = r.toMercure(cfg)
	case Nchan:
		err = r.toNchan(cfg)
	case NATS:
		err = r.toNATS(cfg)
	case WS:
		err = r.toWS(cfg)
	}
	if err != nil {
		return nil, fmt.Errorf("publish to %s: %w", cfg.Kind, err)
	}
	return r, nil
}

// publish makes the message what clients of an edge would get, and queues it.
func (r *rival) publish(topic int, t wire.Template, payload []byte) error {
	if !r.json {
		return r.put(topic, payload)
	}
	in := &r.topics[topic].inst
	switch t {
	case wire.TemplateTrade:
		if err := wire.DecodeTrade(payload, &r.trade); err != nil {
			return err
		}
		r.buf = wire.AppendTradeJSON(r.buf[:0], in, &r.trade, r.trade.In)
	case wire.TemplateBookUpdate:
		if err := wire.DecodeDelta(payload, &r.delta); err != nil {
			return err
		}
		r.buf = wire.AppendDeltaJSON(r.buf[:0], in, &r.delta, r.delta.In)
	default:
		return fmt.Errorf("template %d is not published", t)
	}
	return r.put(topic, r.buf)
}

func (r *rival) address() string { return r.subscribe }

func (r *rival) close() error {
	err := r.pipe.close()
	if r.hangUp != nil {
		err = errors.Join(err, r.hangUp())
	}
	return err
}
