package streamtest

import (
	"testing"

	"github.com/tickwire/tickwire/services/internal/testkit"
)

func TestKafkaOneBroker(t *testing.T) {
	k := testkit.KafkaWith(t, 1, testkit.KafkaOptions{Config: map[string]string{
		// As short as it can be, for TestZombieAfterExpiration's sake: ids expire while an owner is paused.
		"transactional.id.expiration.ms":                           "2000",
		"transaction.remove.expired.transaction.cleanup.interval.ms": "500",
	}})
	suite(t, &env{brokers: k.Addrs(), replicas: 1})
}

func TestKafkaThreeBrokers(t *testing.T) {
	k := testkit.Kafka(t, 3)
	suite(t, &env{brokers: k.Addrs(), replicas: 3})
}
