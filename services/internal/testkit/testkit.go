// Package testkit gives tests the real things to run against: the embedded broker, real Apache Kafka in processes that can
// be killed and paused, and recorded market data. Whatever it starts ends with the test.
package testkit

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/tickwire/tickwire/services/broker"
)

// Broker starts an embedded broker that ends with the test.
func Broker(t testing.TB) *broker.Broker {
	t.Helper()
	return BrokerWith(t, broker.Config{})
}

// BrokerWith is Broker with a configuration.
func BrokerWith(t testing.TB, cfg broker.Config) *broker.Broker {
	t.Helper()
	b, err := broker.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// Data returns the path of a file or folder of the recorded market data, such as binance-spot. It skips the test where the
// data is not there: it is read from TICKWIRE_DATA, or from ../shared/data beside the repository.
func Data(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("TICKWIRE_DATA")
	if dir == "" {
		root, err := repository()
		if err != nil {
			t.Skip("recorded data: ", err)
		}
		dir = filepath.Join(root, "..", "shared", "data")
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("recorded data is not here (set TICKWIRE_DATA to its folder): %v", err)
	}
	return path
}

// repository finds the root of the checkout above the working directory, which for a test is its package's folder.
func repository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", os.ErrNotExist
		}
		dir = parent
	}
}
