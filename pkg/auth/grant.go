package auth

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tickwire/tickwire/pkg/market"
)

// AllSymbols in place of a symbol asks [Grant.Allows] for the channel alone. Whoever then serves all instruments asks again
// for each of them.
const AllSymbols = "*"

// Bounds of what a token may say.
const (
	maxSubject  = 256  // bytes
	maxPatterns = 1024 // symbol patterns of one grant
	maxPattern  = 64   // bytes of one
)

// Grant is who a client is and what it may have. It never changes; a nil Grant is nobody and may have nothing.
type Grant struct {
	Subject string    // who; empty for a client without a token
	Expires time.Time // the token is refused from then on; zero means never

	// What follows is 0 where the server's own limits apply.
	MaxDepth  uint16  // levels a side of a book: 10, 25, 50 or 100
	MinMillis uint16  // a book's updates are merged over at least so long: 100, 250 or 1000
	MaxTopics int     // of one connection
	MaxConns  int     // of the subject, at one server
	Ops       float64 // requests per second of the subject, at one server

	channels uint8               // a bit for each market.Channel
	every    bool                // of the symbols
	exact    map[string]struct{} // symbols without a star
	globs    []string            // those with one

	key  string // the id of an API key; empty otherwise
	hash [32]byte
}

const allChannels = 1<<market.NumChannels - 1

// Unrestricted is what everyone has where nobody is asked for a token.
func Unrestricted() *Grant { return &Grant{channels: allChannels, every: true} }

// Anonymous tells whether the grant came without a token.
func (g *Grant) Anonymous() bool { return g.Subject == "" }

// Key is the id of the API key behind the grant, which is no secret; empty when there is none.
func (g *Grant) Key() string { return g.key }

// Expired tells whether the token's time is over.
func (g *Grant) Expired(now time.Time) bool { return !g.Expires.IsZero() && !now.Before(g.Expires) }

// Every tells whether the grant covers all symbols, those to come too.
func (g *Grant) Every() bool { return g != nil && g.every }

// Denial says why a topic is out of reach.
type Denial uint8

// The denials.
const (
	Granted Denial = iota
	DeniedNobody
	DeniedChannel
	DeniedSymbol
	DeniedDepth
	DeniedMillis
)

var denials = [...]string{
	"granted",
	"nobody has said who this is",
	"the token does not cover this channel",
	"the token does not cover this instrument",
	"the token does not cover this depth",
	"the token does not cover updates as often as this",
}

// String says it in words for the client.
func (d Denial) String() string {
	if int(d) < len(denials) {
		return denials[d]
	}
	return "denied"
}

// Allows tells whether the client may have a topic with a view. Only books have views. It does not look at the time: see
// Expired. It allocates nothing.
func (g *Grant) Allows(ch market.Channel, sym string, view market.View) Denial {
	switch {
	case g == nil:
		return DeniedNobody
	case g.channels>>ch&1 == 0:
		return DeniedChannel
	case sym != AllSymbols && !g.symbol(sym):
		return DeniedSymbol
	case ch != market.Books:
		return Granted
	case g.MaxDepth > 0 && (view.Depth == 0 || view.Depth > g.MaxDepth):
		return DeniedDepth
	case view.Millis < g.MinMillis:
		return DeniedMillis
	}
	return Granted
}

func (g *Grant) symbol(sym string) bool {
	if g.every {
		return true
	}
	if _, ok := g.exact[sym]; ok {
		return true
	}
	return slices.ContainsFunc(g.globs, func(glob string) bool { return match(glob, sym) })
}

// match tells whether s is of the form that glob draws: a star stands for any run of characters, also for none. Each star
// takes as little as it can; when the rest does not fit, the last star takes one more, and no earlier one has to.
func match(glob, s string) bool {
	i, j := 0, 0
	star, mark := -1, 0
	for j < len(s) {
		switch {
		case i < len(glob) && glob[i] == '*':
			star, mark = i, j
			i++
		case i < len(glob) && glob[i] == s[j]:
			i++
			j++
		case star >= 0:
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(glob[i:], "*") == ""
}

// Scope is what a token says about what its bearer may have, as it is written: the claim "tickwire" of a JWT, or a part of an
// entry in the key file. What is left out is not limited.
type Scope struct {
	Channels []string `json:"channels,omitempty" yaml:"channels,omitempty"` // book, bbo, trades, ticker, bars, status
	Symbols  []string `json:"symbols,omitempty" yaml:"symbols,omitempty"`   // names, or patterns with stars: "BTC-*"
	Depth    uint16   `json:"depth,omitempty" yaml:"depth,omitempty"`       // Grant.MaxDepth
	Millis   uint16   `json:"ms,omitempty" yaml:"ms,omitempty"`             // Grant.MinMillis
	Topics   int      `json:"topics,omitempty" yaml:"topics,omitempty"`     // Grant.MaxTopics
	Conns    int      `json:"conns,omitempty" yaml:"conns,omitempty"`       // Grant.MaxConns
	Ops      float64  `json:"ops,omitempty" yaml:"ops,omitempty"`           // Grant.Ops
}

// Grant checks the scope and gives it to a subject. The error names the field.
func (s *Scope) Grant(subject string, expires time.Time) (*Grant, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	g := &Grant{
		Subject: subject, Expires: expires, MaxDepth: s.Depth, MinMillis: s.Millis,
		MaxTopics: s.Topics, MaxConns: s.Conns, Ops: s.Ops,
	}
	if err := g.setChannels(s.Channels); err != nil {
		return nil, err
	}
	return g, g.setSymbols(s.Symbols)
}

func (s *Scope) check() error {
	switch {
	case !slices.Contains([]uint16{0, 10, 25, 50, 100}, s.Depth):
		return errors.New("depth: not one of 10 25 50 100")
	case !slices.Contains([]uint16{0, 100, 250, 1000}, s.Millis):
		return errors.New("ms: not one of 100 250 1000")
	case s.Topics < 0:
		return errors.New("topics: below 0")
	case s.Conns < 0:
		return errors.New("conns: below 0")
	case !(s.Ops >= 0 && s.Ops <= 1e6): // not a number is neither
		return errors.New("ops: not from 0 to 1000000")
	}
	return nil
}

// setChannels refuses an empty list: it could be meant as nothing, and left out it means everything.
func (g *Grant) setChannels(names []string) error {
	if names == nil {
		g.channels = allChannels
		return nil
	}
	if len(names) == 0 {
		return errors.New("channels: empty; leave it out for all of them")
	}
	for i, name := range names {
		ch, err := market.ParseChannel(name)
		if err != nil {
			return fmt.Errorf("channels[%d]: no such channel", i)
		}
		g.channels |= 1 << ch
	}
	return nil
}

func (g *Grant) setSymbols(patterns []string) error {
	switch {
	case patterns == nil:
		g.every = true
		return nil
	case len(patterns) == 0:
		return errors.New("symbols: empty; leave it out for all of them")
	case len(patterns) > maxPatterns:
		return fmt.Errorf("symbols: more than %d", maxPatterns)
	}
	for i, p := range patterns {
		switch {
		case p == "" || len(p) > maxPattern:
			return fmt.Errorf("symbols[%d]: not from 1 to %d bytes", i, maxPattern)
		case strings.Trim(p, "*") == "":
			g.every = true
		case strings.Contains(p, "*"):
			g.globs = append(g.globs, p)
		default:
			if g.exact == nil {
				g.exact = make(map[string]struct{})
			}
			g.exact[p] = struct{}{}
		}
	}
	return nil
}

// checkSubject holds names to what can stand in a log line.
func checkSubject(s string) error {
	if s == "" || len(s) > maxSubject || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return fmt.Errorf("not a name of 1 to %d bytes", maxSubject)
	}
	return nil
}
