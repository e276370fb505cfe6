import { type ApiError, ERRORS } from '@roost/api'
import { describeError } from '@roost/base'
import type { ConfigError } from '../config/config-error.ts'
import type { ServerUnreached } from '../session/connect.ts'
import type { ExitCode, Failure } from './failure.ts'

export interface Explanation {
  readonly what: string
  readonly why: string | null
  readonly fixes: readonly string[]
  readonly exitCode: ExitCode
  /** One word for scripts: a code of the API, or `usage`, `unreachable`, `unauthorized`, `cancelled`, `failed`. */
  readonly code: string
  /** Leads to the request in the server's log. */
  readonly requestId?: string | null
}

const CODE_OF: Readonly<Record<ExitCode, string>> = {
  0: 'done',
  1: 'failed',
  2: 'usage',
  3: 'unreachable',
  4: 'unauthorized',
  130: 'cancelled',
}

/**
 * The only place that turns an error into words at a terminal. Errors are told apart by name: parts of the program may
 * be loaded from sources beside the bundle and then have classes of their own.
 */
export function explain(error: unknown): Explanation {
  const words = explained(error)
  const requestId =
    error instanceof Error && 'requestId' in error && typeof error.requestId === 'string'
      ? error.requestId
      : null
  return { code: CODE_OF[words.exitCode], requestId, ...words }
}

type Words = Omit<Explanation, 'code'> & { readonly code?: string }

function explained(error: unknown): Words {
  const name = error instanceof Error ? error.name : ''
  if (name === 'Failure') {
    const { message, why, fixes, exitCode, code } = error as Failure
    return { what: message, why, fixes, exitCode, ...(code === null ? {} : { code }) }
  }
  if (name === 'ConfigError') {
    const { problems, path } = error as ConfigError
    const count = problems.length === 1 ? 'a mistake' : `${problems.length} mistakes`
    const why = mistakesText(error as ConfigError)
    return { what: `${path} has ${count}`, why, fixes: [], exitCode: 2, code: 'config' }
  }
  if (name === 'ApiError') return explainApiError(error as ApiError)
  if (name === 'AbortError') return { what: 'cancelled', why: null, fixes: [], exitCode: 130 }
  const unreached = unreachedServer(error)
  if (unreached !== null) return unreached
  return { what: describeError(error), why: null, fixes: [], exitCode: 1 }
}

const MISTAKES_SHOWN = 10
const LINE_SHOWN = 100

/** Each with its line and a mark where it is wrong. */
function mistakesText({ problems, path, content }: ConfigError): string {
  const lines = content.split('\n')
  const shown = problems.slice(0, MISTAKES_SHOWN).map(({ at, message }) => {
    const said = `${path}:${at.line}:${at.column}: ${message}`
    const line = lines[at.line - 1]
    if (line === undefined || line.trim() === '') return said
    // Of a long line the part around the mark.
    const from = Math.max(0, Math.min(at.column - 1 - LINE_SHOWN / 2, line.length - LINE_SHOWN))
    const part = line
      .slice(from, from + LINE_SHOWN)
      .replace(/\t/g, ' ')
      .replace(/\p{Cc}/gu, '')
    const margin = String(at.line)
    return `${said}\n  ${margin} | ${part.trimEnd()}\n  ${' '.repeat(margin.length)} | ${' '.repeat(Math.max(0, at.column - 1 - from))}^`
  })
  const more = problems.length - shown.length
  return [...shown, ...(more > 0 ? [`and ${more} more`] : [])].join('\n')
}

function explainApiError(error: ApiError): Words {
  const ours = error.code === 'internal' || error.status >= 500
  const id = error.requestId === null ? '' : ` (request ${error.requestId})`
  const { code } = error
  const base = { what: `${error.message}${ours ? id : ''}`, why: null, exitCode: 1 as const, code }
  switch (error.code) {
    case 'unauthorized':
      return {
        ...base,
        what: 'the server does not accept this token',
        why: withClocks(error.message, error.serverTime),
        fixes: ['roost auth login URL --token-file FILE   # with a token that it knows'],
        exitCode: 4,
      }
    case 'forbidden':
      return {
        ...base,
        what: 'this token may not do that',
        why: error.message,
        fixes: ['roost auth whoami   # shows what it may do, and until when'],
        exitCode: 4,
      }
    case 'version_mismatch':
      return { ...base, fixes: UPDATE, exitCode: 3 }
    case 'unknown_region':
      return { ...base, fixes: ['roost regions'] }
    case 'disk_full':
      return {
        ...base,
        fixes: [
          'roost doctor   # says what takes room',
          'roost registry collect   # removes images that no release can return to',
        ],
      }
    case 'no_room':
      return { ...base, fixes: ['roost regions   # shows the memory that is free'] }
    case 'name_taken':
      return { ...base, fixes: ['choose another name with --name'] }
    case 'conflict':
      if (/lease currently held by (?!release )/.test(error.message))
        return {
          ...base,
          fixes: [
            'roost machine leases view   # shows who holds it, and until when',
            'roost machine leases clear ID   # ends it; what its holder is doing may fail',
          ],
        }
      return { ...base, fixes: ['roost releases   # shows whether another release is under way'] }
    case 'internal':
      return { ...base, why: ERRORS.internal.meaning, fixes: [] }
    case 'not_found':
      return { ...base, fixes: /Machine$/.test(error.route) ? ['roost machine list'] : [] }
    case 'image_not_found':
      return { ...base, fixes: ['roost deploy   # without --image: builds one'] }
    case 'unavailable':
    case 'host_unreachable':
      return { ...base, fixes: ['roost hosts   # whether all of them answer'] }
    case 'image_unusable':
      return { ...base, fixes: ['roost deploy   # without --image: builds one that fits'] }
    case 'precondition_failed':
      return { ...base, fixes: ['roost machine list   # in which state each of them is'] }
    case 'timeout':
      return { ...base, fixes: ['roost status   # how far it has come'] }
    default:
      return { ...base, fixes: [] }
  }
}

/** How far two clocks may be apart before it is worth a word. */
const SKEW_MS = 60_000

/** Whether something has expired is judged by two clocks: where they differ, that is most often why. */
function withClocks(text: string, serverTime: string | null): string {
  const skewMs = serverTime === null ? Number.NaN : Date.now() - Date.parse(serverTime)
  if (!(Math.abs(skewMs) > SKEW_MS)) return text
  return `${text}\n${clocksText(skewMs)}`
}

/** `skewMs`: how far this machine is ahead. */
function clocksText(skewMs: number): string {
  return `The clock of this machine is ${longSpan(Math.abs(skewMs))} ${skewMs > 0 ? 'ahead of' : 'behind'} the server's: one of the two is wrong.`
}

function longSpan(ms: number): string {
  const minutes = Math.round(ms / 60_000)
  if (minutes < 120) return `${minutes} minutes`
  const hours = Math.round(minutes / 60)
  return hours < 48 ? `${hours} hours` : `${Math.round(hours / 24)} days`
}

/** How this command line is brought to the version of the server, or the other way round. */
export const UPDATE = [
  'git pull && make setup   # in the checkout of roost, on the side that is older',
]

const LOGIN = 'roost auth login URL   # if another server is meant'

const TLS_UNTRUSTED = new Set([
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'CERT_SIGNATURE_FAILURE',
])

function unreachedServer(error: unknown): Words | null {
  const url = error instanceof Error && 'serverUrl' in error ? String(error.serverUrl) : null
  if (url === null) return null
  const { from, serverTime, cause: inner } = error as ServerUnreached
  const code = codeInChain(error)
  // Node's own advice is about its flags.
  const cause = describeError(inner ?? error).split('; if the root CA')[0] ?? ''
  const where = from === null ? '' : ` The URL is from ${from}.`
  const base = {
    exitCode: 3 as const,
    fixes: [LOGIN],
  }
  if (TLS_UNTRUSTED.has(code))
    return {
      ...base,
      what: `the certificate of ${url} is signed by an authority that is not known here`,
      why: `${cause}. Either this is another server than you think, or its authority has not been told to this machine.${where}`,
      fixes: [
        `roost auth login ${url} --ca FILE`,
        'or set ROOST_API_CA to the path of its authority in PEM',
      ],
    }
  if (code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID') {
    const skewMs = serverTime === null ? Number.NaN : Date.now() - Date.parse(serverTime)
    const wrong = Math.abs(skewMs) > SKEW_MS
    return {
      ...base,
      what: `the certificate of ${url} ${code === 'CERT_HAS_EXPIRED' ? 'has expired' : 'is not valid yet'} by the clock of this machine`,
      why: wrong
        ? `${clocksText(skewMs)} Here it is ${new Date().toISOString()}.`
        : `${cause}; here it is ${new Date().toISOString()}.${where}`,
      fixes: [
        wrong
          ? 'timedatectl set-ntp true   # sets the clock'
          : 'roost up   # on the server: renews it',
      ],
    }
  }
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID')
    return {
      ...base,
      what: `${url} has a certificate for another name`,
      why: `${cause}.${where}`,
      fixes: ['use the address under which the server was raised'],
    }
  return { ...base, ...unreachedBy(code, url, cause, where) }
}

function unreachedBy(
  code: string,
  url: string,
  cause: string,
  where: string,
): Pick<Words, 'what' | 'why'> & Partial<Words> {
  const host = URL.canParse(url) ? new URL(url).hostname : url
  const isHere = /^(localhost|127\.|198\.1[89]\.|\[::1\])/.test(host)
  switch (code) {
    case 'ECONNREFUSED':
      return {
        what: `no server listens at ${url}`,
        why: `The machine answers, but refuses the connection: the server is stopped, or listens on another port.${where}`,
        fixes: isHere
          ? ['roost playground status   # whether it is up', LOGIN]
          : ['roost up   # on the server: starts it', LOGIN],
      }
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return {
        what: `the name ${host} is not known`,
        why: `${code === 'EAI_AGAIN' ? 'DNS does not answer' : 'DNS knows no such name'}: ${cause}.${where}`,
      }
    case 'UND_ERR_CONNECT_TIMEOUT':
    case 'ETIMEDOUT':
      return {
        what: `${url} does not answer`,
        why: `Nothing came back within 10 s: the machine is off, a firewall drops the packets, or the address is another.${where}`,
      }
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
      return { what: `there is no way to ${url}`, why: `${cause}.${where}` }
    case 'UND_ERR_HEADERS_TIMEOUT':
    case 'UND_ERR_BODY_TIMEOUT':
      return {
        what: `the server at ${url} took the request and did not answer`,
        why: `It is overloaded or stuck; its log says more.${where}`,
        fixes: ['roost hosts', 'the same command again: what was asked for may have been done'],
      }
    case 'ERR_SSL_WRONG_VERSION_NUMBER':
    case 'ERR_SSL_PACKET_LENGTH_TOO_LONG':
    case 'EPROTO':
      return {
        what: `what listens at ${url} does not speak TLS`,
        why: `That is another program than a Roost server, whose port is 4280.${where}`,
      }
    default:
      if (code.startsWith('HPE_') || cause.includes('HTTP/1.1 protocol'))
        return { what: `what listens at ${url} is no Roost server`, why: `${cause}.${where}` }
      return { what: `the server at ${url} does not answer`, why: `${cause}.${where}` }
  }
}

function codeInChain(error: unknown): string {
  let at: unknown = error
  for (let depth = 0; at instanceof Error && depth < 8; depth++) {
    if ('code' in at && typeof at.code === 'string' && at.code !== 'unavailable') return at.code
    at = at instanceof AggregateError ? at.errors[0] : at.cause
  }
  return ''
}
