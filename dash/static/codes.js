// What the router's error codes mean, and what helps: [name, meaning, what to do].
export const CODES = {
	H10: ['App crashed', 'The web process died or never came up.', 'Look at the app\'s log before the first H10, mend it or roll back, restart.'],
	H11: ['Backlog too deep', 'Requests come faster than the app answers them, and the router\'s queue is full.', 'Add dynos, or make the slowest route faster.'],
	H12: ['Request timeout', 'The app sent no byte within 30 s. It may still be working on it.', 'Find the route by its p99; move long work to a worker; set a timeout in the app.'],
	H13: ['Closed without response', 'The app closed the connection before it answered.', 'Often a server\'s own timeout or a worker that was killed: compare it with the app\'s log.'],
	H14: ['No web dynos', 'No web process is running.', 'heroku ps:scale web=1, and a web line in the Procfile.'],
	H15: ['Idle connection', 'Nothing was sent on the connection for 55 s.', 'Send a heartbeat on streams and WebSockets.'],
	H16: ['Redirect to herokuapp.com', 'No longer in use.', 'Nothing.'],
	H17: ['Malformed response', 'The app\'s answer is not HTTP that the router understands.', 'Look for odd headers, a wrong Content-Length, a body after 204.'],
	H18: ['Server interrupted', 'The app broke the connection off in the middle of its answer.', 'Look for crashes, restarts and timeouts of the app\'s server.'],
	H19: ['Connection timeout', 'The dyno did not take the connection within 5 s.', 'The dyno is overloaded: more dynos or more workers in each.'],
	H20: ['Boot timeout', 'The app did not bind its port within 75 s of the queue.', 'Do less at boot; look at R10 in the app\'s log.'],
	H21: ['Connection refused', 'The dyno refused the connection: it is starting, stopping or dead.', 'Look at restarts; let the app finish requests after SIGTERM.'],
	H22: ['Connection limit', 'The routers have too many connections to the dyno open.', 'Answer faster or add dynos; look at long streams.'],
	H23: ['Endpoint misconfigured', 'The DNS of a WebSocket app pointed to an old routing stack. No longer sent.', 'Point the domain to its herokudns.com name.'],
	H24: ['Forced close', 'The routing tier was restarted and closed an idle connection.', 'Nothing: clients connect again.'],
	H25: ['HTTP restriction', 'The answer breaks a limit of the router: a header, cookie or status line too large.', 'Make cookies and headers of this route smaller.'],
	H26: ['Request error', 'The request itself was malformed, such as a bad Expect header.', 'Usually the client\'s fault: look who sends it.'],
	H27: ['Client interrupted', 'The client went away before the answer was complete.', 'Where it comes in numbers, people do not wait: look at this route\'s p95.'],
	H28: ['Client idle', 'The client sent nothing for 55 s before its request was complete.', 'Slow uploads: let clients upload to a store directly.'],
	H31: ['Misdirected request', 'A client reused a connection of another host for this one (421).', 'Usually HTTP/2 clients, which repeat it; look at the certificates\' names.'],
	H32: ['Certificate mismatch', 'The request\'s host does not fit the certificate of its connection.', 'Look at the app\'s domains and certificates, and at proxies in front of it.'],
	H80: ['Maintenance mode', 'The app is switched to maintenance.', 'heroku maintenance:off, when it is over.'],
	H81: ['Blank app', 'Nothing has been deployed to the app.', 'Deploy.'],
	H82: ['Dyno hours used up', 'The account\'s pool of dyno hours is empty.', 'Change the plan, or wait for the next month.'],
	H83: ['Planned degradation', 'Heroku switched this service off for a while, as announced.', 'Look at status.heroku.com.'],
	H99: ['Platform error', 'A fault inside Heroku. Not yours.', 'Look at status.heroku.com; try again in a minute.'],
};

export function describe(code) {
	return Object.hasOwn(CODES, code) ? CODES[code] : ['', 'Not described here.', 'Look it up in Heroku\'s list of error codes.'];
}
