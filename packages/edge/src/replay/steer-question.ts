import { connect } from 'node:net'
import { ANYWHERE, type ReplayAim, type ReplayCacheRule } from '@roost/core'
import { abstractPath } from '../haproxy/abstract-path.ts'

/**
 * What is asked of an edge about single requests, a line each, over an abstract socket:
 * - by HAProxy: `steer HOST FORCE-REGION FORCE-INSTANCE PREFER-REGION PREFER-INSTANCE`, answered with `to SERVER forced|preferred`,
 *   `any` or `no SECONDS TEXT`; and `learn HOST`, answered with `ok` or `no`. Words are separated by tabs, some are empty.
 * - by the replayer: `replay JSON` and `files HOST`, answered with JSON.
 */
export interface ReplayQuestion {
  /** Of the request: tells which app it came to. */
  readonly host: string
  /** Who sent it on; null: nobody, a client chose. */
  readonly from: string | null
  /** Another app than that of the host. */
  readonly app: string | null
  readonly aim: ReplayAim
  readonly timeoutMs: number | null
}
export type ReplayAnswer =
  | {
      readonly kind: 'to'
      readonly slot: string
      readonly server: string
      readonly machine: string
      /** Where `from` is; empty when it is not known. */
      readonly fromRegion: string
      /** How replays of the host's app are kept for sessions. */
      readonly sessions: readonly ReplayCacheRule[]
    }
  | {
      readonly kind: 'no'
      readonly reason: 'timeout' | 'no_candidate'
      readonly why: string
      readonly fromRegion: string
    }

/** Folders of images whose files are served under a host name, in the order in which a file is looked for. */
export interface FilesAnswer {
  readonly folders: readonly {
    /** See `staticFolderName`. */
    readonly folder: string
    readonly urlPrefix: string
    /** Mesh addresses of other hosts that have it. */
    readonly hosts: readonly string[]
  }[]
}

const ANSWER_MS_MAX = 70_000
/** Ten folders of three releases, or twenty rules. */
const ANSWER_CHARS_MAX = 200_000
const EDGE_MS_MAX = 15_000
const PAUSE_MS = 100

/** From a client's own headers. Who forces gets only what was asked for. */
export function aimOfHeaders(asked: {
  readonly forceRegion: string
  readonly forceInstance: string
  readonly preferRegion: string
  readonly preferInstance: string
}): { readonly aim: ReplayAim; readonly forced: boolean } {
  const list = (text: string) =>
    text
      .split(',')
      .map((part) => part.trim().toLowerCase())
      .filter((part) => part !== '')
  const forcedRegions = list(asked.forceRegion)
  const instance = asked.forceInstance.trim()
  const preferInstance = asked.preferInstance.trim()
  return {
    aim: {
      ...ANYWHERE,
      instance: instance === '' ? null : instance,
      preferInstance: preferInstance === '' ? null : preferInstance,
      regions: forcedRegions.length > 0 ? forcedRegions : list(asked.preferRegion),
      preferRegions: forcedRegions.length === 0,
    },
    forced: forcedRegions.length > 0 || instance !== '',
  }
}

class EndlessAnswer extends Error {}

/** Asks the edge once. Throws when it is away, or when nobody wants to know any more. */
export function askEdge(socketName: string, line: string, signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path: abstractPath(socketName), signal })
    let text = ''
    socket.setEncoding('utf8')
    socket.setTimeout(ANSWER_MS_MAX, () => socket.destroy(new Error('no answer')))
    socket.once('connect', () => socket.write(`${line}\n`))
    socket.on('data', (chunk: string) => {
      text += chunk
      if (text.length > ANSWER_CHARS_MAX) socket.destroy(new EndlessAnswer())
    })
    socket.once('error', reject)
    socket.once('close', () => {
      if (text.endsWith('\n')) resolve(text.trimEnd())
      else reject(new Error('the edge did not answer'))
    })
  })
}

/** An edge that is being started again is asked again. null: it does not answer, or nobody wants to know any more. */
export async function askPatiently(
  socketName: string,
  line: string,
  signal: AbortSignal,
): Promise<string | null> {
  const from = performance.now()
  for (;;) {
    const answer = await askEdge(socketName, line, signal).catch((error: unknown) => error)
    if (typeof answer === 'string') return answer
    if (answer instanceof EndlessAnswer || signal.aborted || performance.now() - from > EDGE_MS_MAX)
      return null
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS))
  }
}
