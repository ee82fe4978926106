// Package rivals tests the load that other servers get from this module: against the real programs where they can be had
// (make rivals, make centrifugo), and against servers in the tests whose slowness is known, which must show in full.
package rivals
