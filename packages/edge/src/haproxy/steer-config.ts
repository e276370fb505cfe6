import { shareOf } from '../share.ts'
import { nameRules } from './hostname-rules.ts'
import { logRules } from './log-rules.ts'
import type { ProxyFiles } from './render-config.ts'

/**
 * The part of HAProxy's configuration that sends a request to a machine of somebody's choice: of the client's (`fly-force-region` and
 * its kin), or of the app's (`fly-replay`). Decided elsewhere (`replay/steer-requests.ts`); here it is a name in `txn.to`.
 */
export type SteerFiles = Pick<
  ProxyFiles,
  'hostsMap' | 'replayMap' | 'againSocket' | 'replaySocket' | 'steerSocket'
>

/**
 * Headers that only edges set; whatever a client sends under these names is no one's to read. `Fly_Client_Ip` is the same as
 * `Fly-Client-Ip` to CGI and its heirs. One expression, since each rule would go through all headers of each request.
 */
export const EDGES_ALONE =
  '^(roost-|(fly|x.forwarded)[^_]*_|fly-(forwarded-|(replay-(src|failed|cache-status)|preferred-instance-unavailable)$))'

const STEERING = [
  'fly-prefer-region',
  'fly-force-region',
  'fly-prefer-instance-id',
  'fly-force-instance-id',
]
const REPLAY_TYPE = 'application/vnd.fly.replay+json'

export const REPLAY_BACKEND = 'replay'
/** The same for what may be a file of an image. */
const FILES_BACKEND = 'files'
/** Their servers: our program, and the way around it. */
const REPLAYERS = ['replayer', 'direct']
export const isReplayer = (server: string): boolean => REPLAYERS.includes(server)
/** Requests on the longer way at once; others queue. Of one slot, no more than its share is let in. */
export const REPLAYED_MAX = 4000
/** Of what may be files, so that slow readers of these keep no replays waiting. */
export const FILES_MAX = 1000
/** Slots that are told apart there; the longest idle is forgotten first. */
const COUNTED_MAX = 10_000

/** Before a slot is chosen. */
export function steerRules(files: SteerFiles, staticsMap: string | undefined): string[] {
  const asked = STEERING.map((name) => `{ req.hdr(${name}) -m found }`).join(' or ')
  return [
    `  http-request lua.steer if ${asked}`,
    '  http-request return status 503 content-type text/plain hdr retry-after %[var(txn.retry)] lf-string "%[var(txn.why)]\\n" if { var(txn.why) -m found }',
    // Of a slot with a longer number, the map may know the beginning as another slot.
    ...(staticsMap === undefined
      ? []
      : [
          `  http-request set-var-fmt(txn.file) "%[var(txn.slot)]%[path]" if METH_GET { var(txn.slot),map_str(${staticsMap}) -m found }`,
          `  use_backend ${FILES_BACKEND} if { var(txn.file),map_beg(${staticsMap}) -m str file }`,
        ]),
    `  use_backend ${REPLAY_BACKEND} if { var(txn.slot),map_str(${files.replayMap}) -m found }`,
  ]
}

/**
 * An app that answers with a replay and is not known to do so: from now on its requests go the longer way, on which they are kept until
 * they are answered, and the client is asked to send this one again. Answers that came that way never look like this.
 */
export function learnRules(): string[] {
  return [
    '  http-response del-header roost-answered',
    `  http-response lua.learn if { res.hdr(fly-replay) -m found } or { res.hdr(content-type) -m beg ${REPLAY_TYPE} }`,
    // What begins with two slashes would be another site.
    '  http-response set-var-fmt(txn.again) "%[capture.req.uri]" if { var(txn.learned) -m str yes }',
    String.raw`  http-response set-var-fmt(txn.again) "/.%[var(txn.again)]" if { var(txn.again) -m reg ^/[/\\\\] }`,
    '  http-response return status 307 hdr location "%[var(txn.again)]" hdr cache-control no-store if { var(txn.again) -m found }',
    '  http-response return status 503 content-type text/plain hdr retry-after 1 string "The edge can not send this request on now.\\n" if { var(txn.learned) -m str no }',
  ]
}

/** In each slot. Who is chosen by name gets the request, or nobody does. */
export function namedRules(): string[] {
  return [
    '  force-persist if { var(txn.forced) -m found }',
    '  use-server %[var(txn.to)] if { var(txn.to) -m found }',
  ]
}

/**
 * The longer way: requests of apps that replay go to a program of ours (`replay/replayer.ts`), which hands them back to `again`, each
 * time with the machine that is meant. While that program is being started anew they come back at once.
 */
export function againConfig(files: SteerFiles, timeout: string): string[] {
  return [
    `backend ${REPLAY_BACKEND}`,
    ...entranceRules(REPLAYED_MAX),
    ...replayers(files, `maxconn ${REPLAYED_MAX} pool-max-conn 0`),
    '',
    `backend ${FILES_BACKEND}`,
    ...entranceRules(FILES_MAX),
    '  http-request set-header roost-files 1',
    // No machine did.
    '  http-response set-var(txn.answered) str(file) if { res.hdr(roost-answered) -m str file }',
    // Kept, since all of these may be asked twice.
    ...replayers(files, `maxconn ${FILES_MAX}`),
    '',
    'frontend again',
    `  bind abns@${files.againSocket}`,
    `  maxconn ${2 * REPLAYED_MAX + FILES_MAX}`,
    `  timeout client ${timeout}`,
    '  option httpclose',
    ...logRules('detour'),
    '  http-request set-var(txn.host) req.hdr(roost-host)',
    ...nameRules(files),
    '  http-request set-var(txn.slot) req.hdr(roost-slot) if { req.hdr(roost-slot) -m found }',
    '  http-request set-var(txn.to) req.hdr(roost-server)',
    '  http-request set-var(txn.forced) bool(true) if { var(txn.to) -m found }',
    '  http-request del-header roost- -m beg',
    '  http-request disable-l7-retry unless METH_GET',
    // What is without this did not come from a machine. Who was held has it from there.
    '  http-response set-header roost-answered %[srv_name] unless { srv_name -m beg hold. }',
    '  use_backend %[var(txn.slot)]',
    '',
  ]
}

/** Counted here and not where requests come in, so that those which go the short way pay nothing for it. */
function entranceRules(all: number): string[] {
  return [
    `  stick-table type string len 16 size ${COUNTED_MAX} expire 60s store conn_cur`,
    '  http-request track-sc2 var(txn.slot)',
    `  http-request return status 503 content-type text/plain hdr retry-after 1 string "Too many requests of this app are under way.\\n" if { sc2_conn_cur gt ${shareOf(all)} }`,
    // As it was found: host name, and port where that is no usual one.
    '  http-request set-header roost-host %[var(txn.host)]',
    // An app may have many names.
    '  http-request set-header roost-owner %[var(txn.slot)]',
  ]
}

function replayers(files: SteerFiles, options: string): string[] {
  return [
    `  server replayer abns@${files.replaySocket} ${options} check inter 500ms fastinter 200ms downinter 200ms rise 1 fall 2 observe layer4 error-limit 1 on-error mark-down`,
    `  server direct abns@${files.againSocket} ${options} backup`,
  ]
}
