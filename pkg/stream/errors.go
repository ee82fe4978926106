package stream

import (
	"context"
	"crypto/tls"
	"errors"
	"time"

	"github.com/segmentio/kafka-go"
)

// What a caller branches on.
var (
	// ErrFenced says that another owner has taken the partition over: stop.
	ErrFenced = errors.New("fenced by a newer owner")
	// ErrOutOfSequence says that the broker no longer knows what this producer wrote last: take over again.
	ErrOutOfSequence = errors.New("producer out of sequence")
	// ErrOffsetOutOfRange says that the log does not hold the wanted offset any more (retention) or yet.
	ErrOffsetOutOfRange = errors.New("offset out of range")
	// ErrCorrupt says that a record batch is not what its writer wrote, also after reading it again.
	ErrCorrupt = errors.New("corrupt record batch")
	// ErrTooLarge says that something does not fit into one record batch.
	ErrTooLarge = errors.New("too large for a record batch")
	// ErrBusy says that a bounded queue is full; what was offered is not queued.
	ErrBusy = errors.New("queue full")
	// ErrClosed says that the writer was closed.
	ErrClosed = errors.New("closed")
	// ErrNoTopic says that the cluster does not have the topic.
	ErrNoTopic = errors.New("no such topic")
	// ErrRecreated says that md.events is younger than md.snapshots: it was deleted and made again without the other.
	ErrRecreated = errors.New("md.events is younger than md.snapshots")
)

// transient tells whether trying again may help. Everything that is not Kafka's own word (a broken connection, a timeout, a
// leader the metadata does not know yet) may pass, except a certificate that we do not trust.
func transient(err error) bool {
	var code kafka.Error
	if !errors.As(err, &code) {
		var untrusted *tls.CertificateVerificationError
		return !errors.Is(err, ErrNoTopic) && !errors.Is(err, ErrCorrupt) && !errors.As(err, &untrusted)
	}
	switch code {
	case kafka.BrokerNotAvailable, kafka.ReplicaNotAvailable, kafka.ConcurrentTransactions, kafka.Unknown:
		return true
	case kafka.InvalidMessage: // the broker found a bad CRC in what we sent: the bytes on our side are still good
		return true
	}
	return code.Temporary()
}

// retry runs an idempotent request until it succeeds, fails for good, or ctx ends; each attempt has its own deadline. A
// missing topic is asked for again for a while, since metadata of a new topic takes time to arrive.
func (c *Cluster) retry(ctx context.Context, attempt func(context.Context) error) error {
	const patience = 3 * time.Second
	began, pause := time.Now(), retryPause
	for {
		err := c.attempt(ctx, attempt)
		missing := errors.Is(err, ErrNoTopic) && time.Since(began) < patience
		if err == nil || !missing && !transient(err) {
			return err
		}
		if sleep(ctx, pause) != nil {
			return errors.Join(ctx.Err(), err)
		}
		pause = min(2*pause, maxRetryPause)
	}
}

func (c *Cluster) attempt(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	return do(ctx)
}

// sleep waits for d, or less when ctx ends; it returns ctx's error.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
