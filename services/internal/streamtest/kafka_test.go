package streamtest

import (
	"testing"

	"github.com/tickwire/tickwire/services/internal/testkit"
)

func TestKafkaOneBroker(t *testing.T) {
	k := testkit.KafkaWith(t, 1, testkit.KafkaOptions{Config: map[string]string{
		// As short as it can be, for TestZombieAfterExpiration's sake: ids expire while an owner is paused.
		"transactional.id.expiration.ms":                             "2000",
		"transaction.remove.expired.transaction.cleanup.interval.ms": "500",
	}})
	e := &env{brokers: k.Addrs(), replicas: 1}
	suite(t, e)
	t.Run("check", func(t *testing.T) { testCheck(t, e, true) })
	t.Run("zombie after expiration", func(t *testing.T) { testZombieAfterExpiration(t, e) })
	t.Run("renewal", func(t *testing.T) { testRenewal(t, e) })
}

func TestKafkaThreeBrokers(t *testing.T) {
	k := testkit.Kafka(t, 3)
	e := &env{brokers: k.Addrs(), replicas: 3}
	suite(t, e)
	t.Run("check", func(t *testing.T) { testCheck(t, e, false) })
	t.Run("broker failures", func(t *testing.T) { testBrokerFailures(t, e, k) })
}
