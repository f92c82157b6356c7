package httpapi

import (
	"context"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
)

// NewHTTPServer makes a server with the limits that keep slow and hostile clients
// from taking what good ones need. maxBody is the largest body in bytes that a
// handler reads, hold the longest that it waits besides.
func NewHTTPServer(handler http.Handler, maxBody int, hold time.Duration, errorLog *log.Logger) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:           routed(impatient(handler)),
		ConnContext:       withRoute,
		Protocols:         protocols, // what senders speak, and what is tested
		ReadHeaderTimeout: 5 * time.Second,
		// A body has a deadline of its own, see paced; this one is for an
		// answer, and begins with the body.
		WriteTimeout: 5*time.Minute + bodyTime(maxBody) + hold,
		// Longer than Logplex keeps an idle connection (144 s and up to 15 s),
		// or the next frame would lose one of its three tries.
		IdleTimeout:    185 * time.Second,
		MaxHeaderBytes: 16 << 10,
		ErrorLog:       errorLog,
	}
}

// impatient bounds the time that a body takes which no handler reads: net/http
// waits for it with the answer, or with the end of the connection.
func impatient(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			readUntil(w, time.Now().Add(bodyPatience))
		}
		next.ServeHTTP(w, r)
	})
}

// withRoute gives a connection a chi.Context for all its requests, which come one
// after another: chi would copy every request to give it one of its own.
func withRoute(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, chi.RouteCtxKey, chi.NewRouteContext())
}

// routed makes the connection's chi.Context new for each request.
func routed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if route, ok := r.Context().Value(chi.RouteCtxKey).(*chi.Context); ok {
			route.Reset()
		}
		next.ServeHTTP(w, r)
	})
}
