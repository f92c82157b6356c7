package embedded

import (
	"crypto/rand"
	"fmt"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// Redis is a Redis in this process, which forgets all when it ends.
type Redis struct {
	server   *miniredis.Miniredis
	password string
	stop     chan struct{}
	stopped  chan struct{}
}

// expireEvery is how often keys expire: they do not by themselves.
const expireEvery = 5 * time.Second

// StartRedis starts one on a free port of 127.0.0.1, for this process alone.
func StartRedis() (*Redis, error) {
	r := &Redis{server: miniredis.NewMiniRedis(), password: rand.Text(), stop: make(chan struct{}), stopped: make(chan struct{})}
	r.server.RequireAuth(r.password)
	if err := r.server.StartAddr("127.0.0.1:0"); err != nil {
		return nil, fmt.Errorf("start the embedded Redis: %w", err)
	}
	go r.expire()
	return r, nil
}

// Options are how it is reached.
func (r *Redis) Options() *redis.Options {
	return &redis.Options{Addr: r.server.Addr(), Password: r.password}
}

func (r *Redis) expire() {
	defer close(r.stopped)
	tick := time.NewTicker(expireEvery)
	defer tick.Stop()
	before := time.Now()
	for {
		select {
		case <-r.stop:
			return
		case now := <-tick.C:
			r.server.FastForward(now.Sub(before))
			before = now
		}
	}
}

// Close ends it.
func (r *Redis) Close() {
	close(r.stop)
	<-r.stopped
	r.server.Close()
}
