package embedded

import (
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
)

func startRedis(t *testing.T) *Redis {
	t.Helper()
	r, err := StartRedis()
	must(t, err)
	return r
}

func dial(t *testing.T, o *redis.Options) *redis.Client {
	t.Helper()
	c := redis.NewClient(o)
	t.Cleanup(func() { c.Close() })
	return c
}

func TestRedis_isForThisProcessAlone(t *testing.T) {
	r, other := startRedis(t), startRedis(t)
	defer r.Close()
	defer other.Close()
	o := r.Options()
	if host, _, _ := net.SplitHostPort(o.Addr); host != "127.0.0.1" {
		t.Errorf("it listens on %s", o.Addr)
	}
	for name, password := range map[string]string{"none": "", "another": other.Options().Password, "a guess": "password"} {
		c := dial(t, &redis.Options{Addr: o.Addr, Password: password})
		if err := c.Set(t.Context(), "k", "v", 0).Err(); err == nil || !strings.HasPrefix(err.Error(), "NOAUTH") && !strings.HasPrefix(err.Error(), "WRONGPASS") {
			t.Errorf("with %s as password: %v", name, err)
		}
	}
	if len(o.Password) < 20 {
		t.Errorf("its password has %d characters", len(o.Password))
	}
	c := dial(t, o)
	must(t, c.Set(t.Context(), "k", "v", 0).Err())
	if v, err := c.Get(t.Context(), "k").Result(); v != "v" || err != nil {
		t.Errorf("%q, %v", v, err)
	}
	if n, err := dial(t, other.Options()).DBSize(t.Context()).Result(); n != 0 || err != nil {
		t.Errorf("another one has %d keys, %v", n, err)
	}
}

// What a Redis of its own does by itself, this one has to be told.
func TestRedis_keysExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &Redis{server: miniredis.NewMiniRedis(), stop: make(chan struct{}), stopped: make(chan struct{})} // without its listener, for which a bubble would wait
		for key, ttl := range map[string]time.Duration{"soon": time.Second, "later": time.Minute, "never": 0} {
			must(t, r.server.Set(key, "v"))
			if ttl > 0 {
				r.server.SetTTL(key, ttl)
			}
		}
		go r.expire()
		for _, tt := range []struct {
			after time.Duration
			there []string
		}{{time.Second, []string{"soon", "later", "never"}}, {2 * expireEvery, []string{"later", "never"}}, {40 * time.Second, []string{"later", "never"}}, {20 * time.Second, []string{"never"}}, {10 * time.Hour, []string{"never"}}} {
			time.Sleep(tt.after)
			synctest.Wait()
			for _, key := range []string{"soon", "later", "never"} {
				if is := r.server.Exists(key); is != strings.Contains(strings.Join(tt.there, " "), key) {
					t.Errorf("%v later %s is there: %t", tt.after, key, is)
				}
			}
		}
		r.Close()
	})
}

// The windows' expiry is by the clock, not by a length of time.
func TestRedis_aTimeThatIsOverIsOver(t *testing.T) {
	r := startRedis(t)
	defer r.Close()
	c := dial(t, r.Options())
	for key, at := range map[string]time.Time{"past": time.Now().Add(-time.Minute), "future": time.Now().Add(time.Hour)} {
		must(t, c.Set(t.Context(), key, "v", 0).Err())
		must(t, c.ExpireAt(t.Context(), key, at).Err())
	}
	if left := c.TTL(t.Context(), "future").Val(); left < 59*time.Minute || left > time.Hour {
		t.Errorf("what expires in an hour has %v left", left)
	}
	if n := c.Exists(t.Context(), "past").Val(); n != 0 {
		t.Error("what is over is there")
	}
}

func TestRedis_closeLeavesNothing(t *testing.T) {
	before := goleak.IgnoreCurrent()
	r := startRedis(t)
	o := r.Options()
	c := redis.NewClient(o)
	must(t, c.Set(t.Context(), "k", "v", time.Hour).Err())
	r.Close() // while a client is connected
	must(t, c.Close())
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
	if conn, err := net.Dial("tcp", o.Addr); err == nil {
		conn.Close()
		t.Error("it listens still")
	}
}
