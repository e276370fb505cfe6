import { shareOf } from '../share.ts'

/**
 * How much one client address may have at once, on all public ports together: a part of the connections that there are, so that one which opens them and
 * says nothing leaves the others theirs. HTTP/2 carries many requests on a connection, so these are counted as well.
 */
const CONNECTIONS = 'sources'
const REQUESTS = 'source_requests'
/** Addresses that are told apart; the longest idle is forgotten first. */
const SOURCES_MAX = 100_000

export function sourceTables(): string[] {
  return [CONNECTIONS, REQUESTS].flatMap((name) => [
    `backend ${name}`,
    `  stick-table type ipv6 size ${SOURCES_MAX} expire 60s store conn_cur`,
    '',
  ])
}

/** For a public frontend. What comes from HAProxy itself has no address, and was counted where it came in. */
export function connectionLimit(maxConnections: number): string[] {
  return [
    `  tcp-request connection track-sc0 src table ${CONNECTIONS}`,
    `  tcp-request connection reject if { sc0_conn_cur gt ${shareOf(maxConnections)} }`,
  ]
}

export function requestLimit(maxConnections: number): string[] {
  return [
    `  http-request track-sc1 src table ${REQUESTS} if HTTP_2.0`,
    `  http-request return status 429 content-type text/plain hdr retry-after 1 string "Too many requests of this address are under way.\\n" if { sc1_conn_cur gt ${shareOf(maxConnections)} }`,
  ]
}
