package cluster

import (
	"errors"
	"fmt"
	"strings"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
)

// Mechanisms are those of SASL that can be used.
var Mechanisms = []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}

// SASL is how to log in to the brokers.
type SASL struct {
	// Mechanism is one of Mechanisms.
	Mechanism string
	Username  string
	// Password is a secret: it appears in no error and no log.
	Password  string
	mechanism sasl.Mechanism
}

// NewSASL makes a SASL; nil where nothing is set. The errors name the setting that is
// wrong, and show nothing of the password.
func NewSASL(mechanism, username, password string) (*SASL, error) {
	s := &SASL{Mechanism: mechanism, Username: username, Password: password}
	switch {
	case mechanism == "" && username == "" && password == "":
		return nil, nil
	case mechanism == "":
		return nil, fmt.Errorf("KAFKA_SASL_MECHANISM: not set, while a user or a password is: use %s", strings.Join(Mechanisms, ", "))
	case username == "":
		return nil, errors.New("KAFKA_SASL_USERNAME: not set, while KAFKA_SASL_MECHANISM is: set both")
	case password == "":
		return nil, errors.New("KAFKA_SASL_PASSWORD: not set, while KAFKA_SASL_MECHANISM is: set it in the environment")
	}
	var err error
	switch mechanism {
	case "PLAIN":
		if strings.ContainsRune(username+password, 0) {
			return nil, errors.New("KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD: cannot be used: they hold a NUL, which PLAIN forbids")
		}
		s.mechanism = plain.Mechanism{Username: username, Password: password}
	case "SCRAM-SHA-256":
		s.mechanism, err = scram.Mechanism(scram.SHA256, username, password)
	case "SCRAM-SHA-512":
		s.mechanism, err = scram.Mechanism(scram.SHA512, username, password)
	default:
		return nil, fmt.Errorf("KAFKA_SASL_MECHANISM: cannot use %q: use %s", mechanism, strings.Join(Mechanisms, ", "))
	}
	if err != nil {
		return nil, errors.New("KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD: cannot be used: they hold characters that SCRAM forbids (RFC 4013)")
	}
	return s, nil
}
