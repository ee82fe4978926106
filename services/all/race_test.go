//go:build race

package all_test

// replaySpeed is lower under the race detector, which makes everything several times slower.
const replaySpeed = 12
