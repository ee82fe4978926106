//go:build !race

package all_test

// replaySpeed replays the 650 s of the Binance session in about 16 s.
const replaySpeed = 40
