package all

import (
	"github.com/tickwire/tickwire/services/sse"
	"github.com/tickwire/tickwire/services/ws"
)

// NewEdge makes a WebSocket edge alone, with no log to read: the caller feeds its Mirror. It is for those who measure the
// edge and nothing else, and who import no service but this one.
func NewEdge(cfg ws.Config, deps Deps) (*ws.Server, error) {
	return ws.New(cfg, ws.Deps{Log: deps.Log, Metrics: deps.Metrics})
}

// NewPublicEdge makes the edge for everyone, SSE and REST, in the same way. Its ids need a log to belong to, so the caller
// gives the Mirror a Name too.
func NewPublicEdge(cfg sse.Config, deps Deps) (*sse.Server, error) {
	return sse.New(cfg, sse.Deps{Log: deps.Log, Metrics: deps.Metrics})
}
