import type { ProxyFiles } from './render-config.ts'

type LogFiles = Pick<ProxyFiles, 'logSocket' | 'relaySocket'>

/** Bytes that wait in HAProxy while nobody reads them. */
const RING_BYTES = 1_048_576
const LINE_BYTES_MAX = 1024
/** HAProxy's longest time. */
const ALWAYS = '24d'
/** Of the path of a request that somebody listens to. */
const PATH_BYTES_MAX = 400

/**
 * A ring of lines, and where it is read. Nothing waits for it. A ring that is refused tries again without a pause, which takes a whole processor: so it
 * sends to HAProxy itself, where the relay keeps its session and its lines until there is a reader. The relay would try again at once, too, but does so
 * at another server, which never ends a handshake: the time to connect is its pause. Behind all else that is to be done (`nice`) it hands on many
 * lines at a time, which costs about what it saves the reader.
 */
export function logRing({ relaySocket, logSocket }: LogFiles): string[] {
  const rest = `abns@${relaySocket}.rest`
  return [
    'ring traffic',
    '  format raw',
    `  maxlen ${LINE_BYTES_MAX}`,
    `  size ${RING_BYTES}`,
    '  timeout connect 5s',
    `  timeout server ${ALWAYS}`,
    `  server relay abns@${relaySocket}`,
    '',
    'listen relay',
    '  mode tcp',
    `  bind abns@${relaySocket} nice 1024`,
    // For a reader that ends each session at once. What is more waits.
    '  rate-limit sessions 10',
    `  timeout client ${ALWAYS}`,
    `  timeout tunnel ${ALWAYS}`,
    '  timeout connect 300ms',
    '  retries 1000000000',
    '  balance first',
    `  server reader abns@${logSocket}`,
    `  server rest ${rest} ssl verify none`,
    '',
    'frontend rest',
    '  mode tcp',
    `  bind ${rest}`,
    '  tcp-request inspect-delay 5s',
    '  tcp-request content reject if WAIT_END',
    '',
  ]
}

/**
 * Of a frontend that ends TLS: how long the handshake took, with the first request of a connection alone, and one that failed. Unlike all that is
 * of HTTP, the name that a client asks for there may have line feeds in it, so that it would write lines of its own.
 */
const handshake = (secure: boolean) => (secure ? '/%Th/%sslv' : '')
const failures = (secure: boolean) =>
  secure ? ['  error-log-format "failed %[fc_err_str]|%[ssl_fc_sni,url_enc]"'] : []

/** For a frontend; read by `numbers/log-line.ts`. The host name comes last, since a client may write anything into it. */
export function logRules(at: 'edge' | 'detour', secure = false): string[] {
  return [
    `  log ring@traffic len ${LINE_BYTES_MAX} format raw local0`,
    '  option dontlognull',
    ...failures(secure),
    `  log-format "${at}${handshake(secure)} %s %ST %U %B %Tw %Tc %Tr %Ta %[var(txn.answered)] %[var(txn.access)] %[var(txn.host)]"`,
  ]
}

/** For one of TCP: a line for each connection, when it ends. What only knocks is told as well. */
export function connectionLogRules(at: 'edge' | 'detour', secure = false): string[] {
  return [
    `  log ring@traffic len ${LINE_BYTES_MAX} format raw local0`,
    ...failures(secure),
    `  log-format "tcp ${at}${handshake(secure)} %s %U %B %Tw %Tc %Tt %[var(txn.slot)]"`,
  ]
}

/**
 * For a frontend to clients, once the slot is known. Of apps that somebody listens to, lines also say who asked for what; all others pay for a look
 * into an empty map. What stands behind a `?` never leaves HAProxy unless somebody asked for it.
 */
export function accessRules({ accessMap }: Pick<ProxyFiles, 'accessMap'>): string[] {
  const tell = (asked: 'path' | 'query', sample: 'path' | 'pathq') =>
    `  http-request set-var-fmt(txn.access) "%[src]|%[method]|%[unique-id]|%[${sample},bytes(0,${PATH_BYTES_MAX})]" if { var(txn.told) -m str ${asked} }`
  return [
    `  http-request set-var(txn.told) var(txn.slot),map_str(${accessMap})`,
    tell('path', 'path'),
    tell('query', 'pathq'),
    // What was held or replayed was answered by a machine that this frontend never sees.
    '  http-response set-var(txn.answered) res.hdr(roost-answered) if { var(txn.access) -m found }',
  ]
}
