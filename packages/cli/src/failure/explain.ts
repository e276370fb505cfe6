import { type ApiError, ERRORS } from '@roost/api'
import { describeError } from '@roost/base'
import type { ConfigError } from '../config/fly-toml.ts'
import type { ExitCode, Failure } from './failure.ts'

export interface Explanation {
  readonly what: string
  readonly why: string | null
  readonly fixes: readonly string[]
  readonly exitCode: ExitCode
}

/**
 * The only place that turns an error into words at a terminal. Errors are told apart by name: parts of the program may
 * be loaded from sources beside the bundle and then have classes of their own.
 */
export function explain(error: unknown): Explanation {
  const name = error instanceof Error ? error.name : ''
  if (name === 'Failure') {
    const { message, why, fixes, exitCode } = error as Failure
    return { what: message, why, fixes, exitCode }
  }
  if (name === 'ConfigError') {
    const { problems, path, message } = error as ConfigError
    const count = problems.length === 1 ? 'a mistake' : `${problems.length} mistakes`
    return { what: `${path} has ${count}`, why: message, fixes: [], exitCode: 2 }
  }
  if (name === 'ApiError') return explainApiError(error as ApiError)
  const unreached = unreachedServer(error)
  if (unreached !== null) return unreached
  return { what: describeError(error), why: null, fixes: [], exitCode: 1 }
}

function explainApiError(error: ApiError): Explanation {
  const ours = error.code === 'internal' || error.status >= 500
  const id = error.requestId === null ? '' : ` (request ${error.requestId})`
  const base = { what: `${error.message}${ours ? id : ''}`, why: null, exitCode: 1 as const }
  switch (error.code) {
    case 'unauthorized':
      return {
        ...base,
        what: 'the server does not know this token',
        why: error.message,
        fixes: ['roost auth login URL --token-file FILE'],
      }
    case 'forbidden':
      return {
        ...base,
        what: 'this token may not do that',
        why: error.message,
        fixes: ['roost auth whoami   # shows what it may do'],
      }
    case 'unknown_region':
      return { ...base, fixes: ['roost regions'] }
    case 'no_room':
      return { ...base, fixes: ['roost regions   # shows the memory that is free'] }
    case 'name_taken':
      return { ...base, fixes: ['choose another name with --name'] }
    case 'conflict':
      return { ...base, fixes: ['roost releases   # shows whether another release is under way'] }
    case 'internal':
      return { ...base, why: ERRORS.internal.meaning, fixes: [] }
    case 'not_found':
      return { ...base, fixes: /Machine$/.test(error.route) ? ['roost machine list'] : [] }
    case 'image_not_found':
      return { ...base, fixes: ['roost deploy   # without --image: builds one'] }
    default:
      return { ...base, fixes: [] }
  }
}

const TLS_UNTRUSTED = new Set([
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'CERT_SIGNATURE_FAILURE',
])

function unreachedServer(error: unknown): Explanation | null {
  const url = error instanceof Error && 'serverUrl' in error ? String(error.serverUrl) : null
  if (url === null) return null
  const code = codeInChain(error)
  // Node's own advice is about its flags.
  const cause = describeError((error as Error).cause ?? error).split('; if the root CA')[0] ?? ''
  if (TLS_UNTRUSTED.has(code))
    return {
      what: `the certificate of ${url} is signed by an authority that is not known here`,
      why: `${cause}. Either this is another server than you think, or its authority has not been told to this machine.`,
      fixes: [
        `roost auth login ${url} --ca FILE`,
        'or set ROOST_API_CA to the path of its authority in PEM',
      ],
      exitCode: 1,
    }
  if (code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID')
    return {
      what: `the certificate of ${url} is not valid now`,
      why: `${cause}; this machine's clock says ${new Date().toISOString()}`,
      fixes: [],
      exitCode: 1,
    }
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID')
    return {
      what: `${url} has a certificate for another name`,
      why: cause,
      fixes: ['use the address under which the server was raised'],
      exitCode: 1,
    }
  return {
    what: `the server at ${url} does not answer`,
    why: cause,
    fixes: ['roost playground status', 'roost auth whoami   # shows which server is used'],
    exitCode: 1,
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
