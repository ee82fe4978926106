package sse

import (
	"strconv"
	"strings"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
	"github.com/tickwire/tickwire/services/internal/mirror"
	"github.com/tickwire/tickwire/services/internal/rest"
)

// discovered is what /v1/streams tells: every way to data, with its parameters. URLs are templates of RFC 6570.
type discovered struct {
	Proto   int              `json:"proto"`
	Auth    string           `json:"auth"`
	Resume  resumable        `json:"resume"`
	Limits  limited          `json:"limits"`
	Streams []discoveredPath `json:"streams"`
	REST    []discoveredPath `json:"rest"`
}

// resumable is how far back a stream can be resumed.
type resumable struct {
	Msgs int   `json:"msgs"`
	Ms   int64 `json:"ms"`
}

// limited are the server's limits; 0 is none.
type limited struct {
	Rate       float64 `json:"rate"`  // requests per second, of each address or subject
	Burst      int     `json:"burst"` // at once
	Conns      int     `json:"conns"`
	ConnsPerIP int     `json:"conns_per_ip"`
	MaxAgeMs   int64   `json:"max_age_ms"`
}

type discoveredPath struct {
	Kind   string       `json:"kind,omitempty"` // of a stream: sse or websocket
	URL    string       `json:"url"`
	Ch     []string     `json:"ch,omitempty"`
	Sub    []string     `json:"subprotocols,omitempty"`
	Params []rest.Param `json:"params"`
}

// discovery is the page of /v1/streams, made anew when the WebSocket edge has moved.
func (s *Server) discovery() *mirror.Page {
	ws := s.webSocket()
	s.found.mu.Lock()
	defer s.found.mu.Unlock()
	if s.found.page == nil || s.found.ws != ws {
		s.found.page, s.found.ws = digested(mustJSON(s.discover(ws))), ws
	}
	return s.found.page
}

// webSocket is where the WebSocket edge is, as far as this one knows.
func (s *Server) webSocket() string {
	if s.cfg.WSURL != "" {
		return s.cfg.WSURL
	}
	if s.findWS != nil {
		if url := s.findWS(); url != "" {
			return url
		}
	}
	return "/v1/ws"
}

func (s *Server) discover(ws string) *discovered {
	d := &discovered{
		Proto: wire.Proto, Auth: s.access.Mode().String(),
		Resume: resumable{s.mirror.Limits().RingEntries, s.mirror.Limits().RingAge.Milliseconds()},
		Limits: limited{s.cfg.RestRate, s.cfg.RestBurst, s.cfg.MaxConns, s.cfg.MaxPerIP, s.cfg.MaxAge.Milliseconds()},
	}
	for _, ch := range []market.Channel{market.Tickers, market.BBOs, market.Trades, market.Bars} {
		d.Streams = append(d.Streams, sseOf(ch, false))
		if ch == market.Tickers {
			d.Streams = append(d.Streams, sseOf(ch, true))
		}
	}
	var channels []string
	for ch := range market.NumChannels {
		channels = append(channels, market.Channel(ch).String())
	}
	topics := []rest.Param{
		{Name: "depth", Values: depthParam.Values, Default: "0"},
		{Name: "ms", Values: []string{"0", "100", "250", "1000"}, Default: "0"},
		{Name: "iv", Values: intervalParam.Values},
		{Name: "last", Max: wire.MaxLast, Default: "0"},
		{Name: "history", Max: wire.MaxHistory, Default: "0"},
	}
	d.Streams = append(d.Streams, discoveredPath{
		Kind: "websocket", URL: ws, Ch: channels, Sub: []string{wire.SubprotocolJSON, wire.SubprotocolSBE}, Params: topics,
	})
	for i := range s.endpoints {
		e := &s.endpoints[i]
		d.REST = append(d.REST, discoveredPath{URL: template(e.path, e.params), Params: append([]rest.Param{}, e.params...)})
	}
	return d
}

// sseOf is a stream of a channel.
func sseOf(ch market.Channel, all bool) discoveredPath {
	path := "/v1/sse/" + ch.String()
	params := []rest.Param{{Name: "symbols", Required: true, Most: maxSymbols}}
	if all {
		path, params = path+"/all", nil
	}
	rate := rest.Param{Name: "rate", Default: defaultRate[ch].String()}
	if ch == market.Trades {
		rate.Values, rate.Default = []string{"0"}, "0"
	}
	for _, r := range rates {
		rate.Values = append(rate.Values, r.String())
	}
	params = append(params, rate)
	if ch == market.Bars {
		params = append(params, intervalParam)
	}
	params = append(params,
		rest.Param{Name: "hb", Values: []string{"event"}},
		rest.Param{Name: "lastEventId"},
		rest.Param{Name: "ticket"},
		rest.Param{Name: "after"},
		rest.Param{Name: "wait", Max: int64(maxWait.Seconds()), Default: strconv.Itoa(int(defaultWait.Seconds()))},
	)
	return discoveredPath{Kind: "sse", URL: template(path, params), Ch: []string{ch.String()}, Params: params}
}

// template is a path with its query as RFC 6570 writes it.
func template(path string, params []rest.Param) string {
	names := make([]string, len(params))
	for i, p := range params {
		names[i] = p.Name
	}
	if len(names) == 0 {
		return path
	}
	return path + "{?" + strings.Join(names, ",") + "}"
}
