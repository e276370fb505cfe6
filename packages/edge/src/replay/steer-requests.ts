import { createServer, type Socket } from 'node:net'
import { type Logger, staticFolderName } from '@roost/base'
import {
  type App,
  chooseTarget,
  HOLD_MS,
  HOLD_REPLACED_MS,
  type HostId,
  isAimedAt,
  mayReplay,
  type ReplayAim,
  type ReplayCandidate,
  type Route,
} from '@roost/core'
import { abstractPath } from '../haproxy/abstract-path.ts'
import { type ObservedEntry, parseServers } from '../haproxy/observed-proxy.ts'
import type { RuntimeApi } from '../haproxy/runtime-api.ts'
import { shareOf } from '../share.ts'
import {
  aimOfHeaders,
  type FilesAnswer,
  type ReplayAnswer,
  type ReplayQuestion,
} from './steer-question.ts'

/**
 * Answers which machine a request is for that names one (see `steer-question.ts`), from HAProxy's own view of who is up. Where what is
 * meant is on its way, the answer waits for it, with a limit. No request passes through here.
 */
export interface SteerRequests {
  listen(): Promise<{ readonly port: number; close(): Promise<void> }>
}

const LOOK_MS = 50
const LINE_CHARS_MAX = 12_000
const LINE_MS_MAX = 5000
export const ASKING_MAX = 2500

interface Chosen {
  readonly slot: string
  readonly server: string
  readonly machine: string
}

export function createSteerRequests(options: {
  readonly steerSocket: string
  /** By its own name, or by the wildcard that stands for it. */
  readonly routeOf: (host: string) => Route | undefined
  readonly routes: () => readonly Route[]
  /** The slot of a route by its key. */
  readonly slotOf: (key: string) => string | undefined
  readonly apps: () => readonly App[]
  readonly regionOf: (machine: string) => string | null
  /** On the mesh, of another host than this one; null: there is no such host. */
  readonly addressOf: (host: HostId) => string | null
  readonly api: Pick<RuntimeApi, 'send'>
  /** An app that is known to replay did. */
  readonly replayed: (app: string) => void
  /** An app that was not known to replay did. Resolves when the next request of it may come. */
  readonly learn: (route: Route) => Promise<boolean>
  readonly log: Logger
}): SteerRequests {
  const { api, log } = options
  const looking = new Map<string, Promise<readonly ObservedEntry[]>>()
  const pausing = new Map<string, Promise<void>>()
  /** Questions of each app that are under way. */
  const asking = new Map<string, number>()

  function look(slot: string): Promise<readonly ObservedEntry[]> {
    const now = looking.get(slot)
    if (now !== undefined) return now
    const made = api
      .send([`show stat ${slot} 4 -1`])
      .then(([stat = '']) => parseServers(stat).get(slot) ?? [])
      .finally(() => looking.delete(slot))
    looking.set(slot, made)
    return made
  }

  /** All who wait for the same app look again at the same time, so that it is one look. */
  function pause(key: string): Promise<void> {
    const now = pausing.get(key)
    if (now !== undefined) return now
    const made = new Promise<void>((resolve) => {
      setTimeout(() => {
        pausing.delete(key)
        resolve()
      }, LOOK_MS)
    })
    pausing.set(key, made)
    return made
  }

  /** Whose app has its share of those who ask does not wait: the answer is what there is now. */
  async function counted(
    host: string,
    answer: (mayWait: boolean) => Promise<string>,
  ): Promise<string> {
    const app = byHost(host)?.app ?? ''
    const before = asking.get(app) ?? 0
    asking.set(app, before + 1)
    try {
      return await answer(before < shareOf(ASKING_MAX))
    } finally {
      const left = (asking.get(app) ?? 0) - 1
      if (left > 0) asking.set(app, left)
      else asking.delete(app)
    }
  }

  async function chooseNow(route: Route, aim: ReplayAim): Promise<Chosen | null> {
    const slot = options.slotOf(route.key)
    if (slot === undefined) return null
    const seen = await look(slot)
    const servers = new Map<string, string>()
    const candidates = shuffled(route.targets).flatMap((target): ReplayCandidate[] => {
      const of = seen.filter(
        ({ entry, endpoint }) =>
          entry?.machine === target.machine && endpoint === `${target.address}:${target.port}`,
      )
      const usable = of.find(({ maint, up }) => !maint && up)
      if (usable === undefined) return []
      servers.set(target.machine, usable.name)
      const load = of.reduce((sum, { sessions }) => sum + sessions, 0)
      const full = load >= (route.concurrency.hard_limit ?? Number.POSITIVE_INFINITY)
      return [{ machine: target.machine, region: target.region, rank: target.rank, load, full }]
    })
    const chosen = chooseTarget(aim, candidates)
    const server = servers.get(chosen?.machine ?? '')
    return chosen === null || server === undefined
      ? null
      : { slot, server, machine: chosen.machine }
  }

  /** `routeNow`: what there is changes while it is waited for. */
  async function choose(
    routeNow: () => Route | undefined,
    aim: ReplayAim,
    limitMs: number,
    signal: AbortSignal,
  ): Promise<Chosen | 'timeout' | 'no_candidate'> {
    const from = performance.now()
    for (;;) {
      const route = routeNow()
      if (route === undefined) return 'no_candidate'
      // HAProxy that is being started again does not answer for a moment.
      const chosen = await chooseNow(route, aim).catch(() => null)
      if (chosen !== null) return chosen
      const hoped = [...route.targets, ...route.coming].some((target) => isAimedAt(aim, target))
      if (!hoped) return 'no_candidate'
      if (performance.now() - from >= limitMs || signal.aborted) return 'timeout'
      await pause(route.key)
    }
  }

  const byHost = (host: string) => options.routeOf(host.toLowerCase())

  async function steer(
    words: readonly string[],
    mayWait: boolean,
    signal: AbortSignal,
  ): Promise<string> {
    const [host = '', forceRegion = '', forceInstance = ''] = words
    const [, , , preferRegion = '', preferInstance = ''] = words
    const { aim, forced } = aimOfHeaders({
      ...{ forceRegion, forceInstance },
      ...{ preferRegion, preferInstance },
    })
    const chosen = await choose(() => byHost(host), aim, forced && mayWait ? HOLD_MS : 0, signal)
    if (typeof chosen !== 'string') return `to ${chosen.server} ${forced ? 'forced' : 'preferred'}`
    if (!forced) return 'any'
    return `no ${chosen === 'timeout' ? 5 : 1} The machine or region that was asked for can not answer now.`
  }

  async function replay(
    question: ReplayQuestion,
    mayWait: boolean,
    signal: AbortSignal,
  ): Promise<ReplayAnswer> {
    const fromRegion = options.regionOf(question.from ?? '') ?? ''
    const no = (reason: 'timeout' | 'no_candidate', why: string): ReplayAnswer => ({
      ...{ kind: 'no', reason, why, fromRegion },
    })
    const own = byHost(question.host)
    const appOf = (name: string) => options.apps().find((app) => app.name === name)
    const source = appOf(own?.app ?? '')
    if (own === undefined || source === undefined)
      return no('no_candidate', 'There is no such app any more.')
    if (question.from !== null) options.replayed(own.app)
    const target = question.app === null ? source : appOf(question.app)
    // Whether others have an app of that name is not told.
    if (target === undefined || !mayReplay(source, target))
      return no('no_candidate', `No app ${question.app} may be sent requests from here.`)
    const routeNow = () =>
      target === source
        ? byHost(question.host)
        : options.routes().find(({ key }) => key === `${target.name}/http`)
    const limitMs = mayWait ? Math.min(question.timeoutMs ?? HOLD_MS, HOLD_REPLACED_MS) : 0
    const chosen = await choose(routeNow, question.aim, limitMs, signal)
    if (typeof chosen !== 'string')
      return { kind: 'to', ...chosen, fromRegion, sessions: own.http?.replay_cache ?? [] }
    return no(chosen, 'No machine that the request was sent on to can answer now.')
  }

  function files(host: string): FilesAnswer {
    const folders = byHost(host)?.statics ?? []
    return {
      folders: folders.map(({ image, guestPath, urlPrefix, hosts }) => ({
        folder: staticFolderName(image, guestPath),
        urlPrefix,
        hosts: hosts.flatMap((id) => options.addressOf(id) ?? []),
      })),
    }
  }

  async function learn(host: string): Promise<string> {
    const route = byHost(host)
    return route !== undefined && (await options.learn(route)) ? 'ok' : 'no'
  }

  async function answerTo(line: string, signal: AbortSignal): Promise<string> {
    const [verb = '', ...words] = line.split('\t')
    const [host = ''] = words
    if (verb === 'steer') return counted(host, (mayWait) => steer(words, mayWait, signal))
    if (verb === 'learn') return counted(host, async (mayWait) => (mayWait ? learn(host) : 'no'))
    if (verb === 'replay') {
      const question = JSON.parse(words.join('\t')) as ReplayQuestion
      return counted(question.host, async (mayWait) =>
        JSON.stringify(await replay(question, mayWait, signal)),
      )
    }
    if (verb === 'files') return JSON.stringify(files(host))
    throw new Error(`no such question: ${verb.slice(0, 20)}`)
  }

  function serve(socket: Socket): void {
    let text = ''
    const gone = new AbortController()
    const giveUp = setTimeout(() => socket.destroy(), LINE_MS_MAX)
    socket.setEncoding('utf8')
    socket.on('error', () => socket.destroy())
    socket.once('close', () => {
      clearTimeout(giveUp)
      gone.abort()
    })
    const onData = (chunk: string) => {
      text += chunk
      const end = text.indexOf('\n')
      if (end === -1) {
        if (text.length > LINE_CHARS_MAX) socket.destroy()
        return
      }
      clearTimeout(giveUp)
      socket.off('data', onData)
      socket.resume()
      answerTo(text.slice(0, end), gone.signal).then(
        (line) => socket.end(`${line}\n`),
        (error) => {
          log.warn('a question about a request', { error })
          socket.destroy()
        },
      )
    }
    socket.on('data', onData)
  }

  return {
    listen: () =>
      new Promise((resolve, reject) => {
        const open = new Set<Socket>()
        const server = createServer((socket) => {
          open.add(socket)
          socket.once('close', () => open.delete(socket))
          serve(socket)
        })
        server.maxConnections = ASKING_MAX
        server.once('error', reject)
        server.listen({ path: abstractPath(options.steerSocket), backlog: 4096 }, () =>
          resolve({
            port: 0,
            close: async () => {
              for (const socket of open) socket.destroy()
              await new Promise((closed) => server.close(closed))
            },
          }),
        )
      }),
  }
}

/** Of equals any may be the first: otherwise all who ask at once would get the same one. */
function shuffled<T>(list: readonly T[]): readonly T[] {
  return list
    .map((item) => ({ item, at: Math.random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item)
}
