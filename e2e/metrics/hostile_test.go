package metrics

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"drain/trial/check"
	"drain/trial/redisserver"
)

// Paths that nobody has asked for before, with markup and worse in them, take no room from an
// application's routes, and little memory: it is compared with a process that counts as many requests
// of the application alone.
func TestHostilePaths_takeNoRoom(t *testing.T) {
	hostile := 200_000
	if *long {
		hostile = 5_000_000
	}
	drain := start(t, "drain", "LOGS_TOPIC=tame")
	broker := drain.Saying(`msg="drain listens".* kafka=(\S+)`)
	redis := redisserver.Start(t)
	metrics := start(t, "metrics", "KAFKA_URL="+broker, "REDIS_URL="+redis.URL())
	control := start(t, "metrics", "KAFKA_URL="+broker, "REDIS_URL="+redis.URL(), "KAFKA_TOPIC=tame", "KAFKA_GROUP=tame")
	client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.DefaultProduceTopic("router"), kgo.MaxBufferedRecords(20_000))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	r := rand.New(rand.NewPCG(1, 2))
	words := []string{"wp-admin", "x", "shop", "users", "<script>alert(1)</script>", "é", "..%2f..", "api", "%00", "admin.php"}
	n := 0
	send := func(topic, path string, status int) {
		value := fmt.Sprintf(`{"id":"%d","time":"%s","app":"shop","method":"GET","path":"%s","host":"<script>","dyno":"web.1","service_ms":5,"status":%d}`, n, time.Now().UTC().Format("2006-01-02T15:04:05.000000Z"), path, status)
		client.Produce(t.Context(), &kgo.Record{Topic: topic, Value: []byte(value)}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	own := func() string {
		k := r.IntN(300)
		return fmt.Sprintf([]string{"/users/%d/page%d", "/shop/page%[2]d", "/page%[2]d/%[1]d/edit"}[k%3], r.IntN(1000), k)
	}
	request := func(path string, status int) {
		n++
		send("router", path, status)
		send("tame", own(), status)
	}
	for i := range hostile {
		path := ""
		for range 1 + r.IntN(4) {
			path += fmt.Sprintf("/%s%x", words[r.IntN(len(words))], r.Uint32())
		}
		request(path, []int{200, 200, 404}[i%3])
		if i%5 == 0 { // the application's part is a sixth
			request(own(), 200)
		}
	}
	if err := client.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*process{metrics, control} {
		check.Within(t, 3*time.Minute, "all to be counted", func() (int, error) {
			l, err := ask[lag](p.page() + "/api/v1/lag")
			if err == nil && l.Records != int64(n) {
				err = fmt.Errorf("%d of %d", l.Records, n)
			}
			return 0, err
		})
	}
	names := []string{"/users/:id/page%d", "/shop/page%d", "/page%d/:id/edit"}
	routes := get[[]line](t, metrics.page()+"/api/v1/routes?last=1h&limit=10000")
	if len(routes) > 1000 {
		t.Errorf("%d routes", len(routes))
	}
	listed, sum := map[string]int64{}, int64(0)
	for _, r := range routes {
		listed[r.Route] = r.Requests
		sum += r.Requests
	}
	if sum != int64(n) {
		t.Errorf("the routes have %d requests of %d", sum, n)
	}
	lost := 0
	for k := range 300 {
		name := fmt.Sprintf(names[k%3], k)
		if listed[name] == 0 {
			lost++
			t.Logf("%s is not listed", name)
		}
	}
	if lost > 0 {
		t.Errorf("%d of the application's 300 routes are not listed among %d", lost, len(routes))
	}
	underMemory(t, metrics, 128<<20)
	if more := peak(t, metrics) - peak(t, control); more > 64<<20 {
		t.Errorf("the hostile paths took %d MiB", more>>20)
	}
}
