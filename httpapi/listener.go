package httpapi

import (
	"log"
	"net/http"
	"time"
)

// NewHTTPServer makes a server with the limits that keep slow and hostile clients
// from taking what good ones need. hold is the longest a handler waits.
func NewHTTPServer(handler http.Handler, hold time.Duration, errorLog *log.Logger) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:           handler,
		Protocols:         protocols, // what senders speak, and what is tested
		ReadHeaderTimeout: 5 * time.Second,
		// A body has a deadline of its own, see readBody; the longest is that of
		// the largest body.
		WriteTimeout: 5*time.Minute + hold,
		// Longer than Logplex keeps an idle connection (144 s and up to 15 s),
		// or the next frame would lose one of its three tries.
		IdleTimeout:    185 * time.Second,
		MaxHeaderBytes: 16 << 10,
		ErrorLog:       errorLog,
	}
}
