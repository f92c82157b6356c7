package cluster

import (
	"slices"
	"strings"
	"testing"
)

func TestAddressesOfAURL(t *testing.T) {
	for url, want := range map[string][]string{
		"kafka://a:9094":                 {"a:9094"},
		"kafka://a:1,b:2":                {"a:1", "b:2"},
		"kafka://a:1,kafka://b:2":        {"a:1", "b:2"},
		"kafka://a:1/":                   {"a:1"},
		"a:1,b:2":                        {"a:1", "b:2"},
		"a":                              {"a:9092"},
		"kafka://a":                      {"a:9092"},
		" a:1 ,\n b:2 ,":                 {"a:1", "b:2"},
		"127.0.0.1:9092":                 {"127.0.0.1:9092"},
		"[::1]:9093":                     {"[::1]:9093"},
		"kafka://[::1]":                  {"[::1]:9092"},
		"::1":                            {"[::1]:9092"},
		"kafka+ssl://a:9,kafka+ssl://b":  {"a:9", "b:9096"},
		"kafka+ssl://a,b:1":              {"a:9096", "b:1"},
		"ec2-1-2-3-4.compute.example:96": {"ec2-1-2-3-4.compute.example:96"},
	} {
		got, secure, err := Addresses(url)
		if err != nil || !slices.Equal(got, want) || secure != strings.Contains(url, "+ssl") {
			t.Errorf("%q: %v, secure %t, %v; want %v", url, got, secure, err, want)
		}
	}
}

func TestAURLThatHasNoAddressesIsNotShown(t *testing.T) {
	const loot = "swordfish"
	for _, url := range []string{
		"", " ", ",", "kafka://", "kafka:///", "http://a:1", "kafka+ssl://", "kafka+ssl://a:1,kafka://b:1", "kafka://a:1,kafka+ssl://b:1", "a:1,kafka+ssl://b:1", "KAFKA://a:1",
		"a:0", "a:65536", "a:-1", "a:+1", "a:port", ":1", "a:1/topic", "a b:1", "a:1,b:2:3:x",
		"kafka://" + loot + "@a:1", "kafka://user:" + loot + "@a:1", "user:" + loot + "@a", "a:1,kafka://u:" + loot + "@b:2", loot + "://a:1", loot + "\n://a:1",
		"a\nb:1", "a\x00:1", "a?x=" + loot, "a#" + loot + ":1", "a%2f:1", "a\"b:1", "kafka://kafka://a:1",
	} {
		got, _, err := Addresses(url)
		if err == nil {
			t.Errorf("%q gives %v", url, got)
			continue
		}
		if text := err.Error(); strings.Contains(text, loot) || strings.Contains(text, "\n") || !strings.Contains(text, "kafka://host:port") {
			t.Errorf("%q: %q", url, text)
		}
	}
}
