import { once } from 'node:events'
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { Worker } from 'node:worker_threads'
import { createLogger, untilShutdown } from '@roost/base'
import { listenForCommands, type WanCommand, type WanReply } from './control.ts'
import { type Faults, linksFor, NO_FAULTS, withPair, withPort } from './links.ts'
import { openPacketSockets } from './packet-socket.ts'
import { startResolver } from './resolver.ts'
import type { SwitchCounters, SwitchPort } from './switch-loop.ts'
import type { SwitchThreadData, ToSwitch } from './switch-thread.ts'

/** The network between simulated regions, and the resolver of their clients: one program, in a network namespace of its own. */
export interface WanConfig {
  readonly ports: readonly SwitchPort[]
  readonly controlSocket: string
  /** Faults outlive a restart of this program. */
  readonly faultsFile: string
  readonly logFile: string
  readonly resolver: {
    readonly address: string
    readonly domain: string
    /** Name servers of the domain: the hosts' public addresses, by region. */
    readonly edges: readonly { readonly region: string; readonly address: string }[]
    /** /24 of each region's clients: which edge is asked first. */
    readonly clientNetworks: readonly { readonly cidr: string; readonly region: string }[]
    /** Where all other names are asked for. */
    readonly upstream: readonly string[]
  } | null
}

const ANSWERS_WAITING_MAX = 100

const { values } = parseArgs({ options: { config: { type: 'string' } } })
if (values.config === undefined) throw new Error('usage: main.ts --config FILE')
const config = JSON.parse(readFileSync(values.config, 'utf8')) as WanConfig
const log = createLogger({ program: 'wan', file: config.logFile })
const endpoints = config.ports.map((port) => port.name)

const bells = openPacketSockets()
const bell = bells.bell()
const thread = new Worker(new URL('./switch-thread.ts', import.meta.url), {
  workerData: { ports: config.ports, bell } satisfies SwitchThreadData,
})
thread.on('error', (error) => {
  log.error('the switch failed', { error })
  process.exit(1)
})
const answers: ((counters: SwitchCounters) => void)[] = []
await once(thread, 'message')
thread.on('message', (counters: SwitchCounters) => answers.shift()?.(counters))

function tell(message: ToSwitch): Promise<SwitchCounters> {
  if (answers.length >= ANSWERS_WAITING_MAX) throw new Error('too many questions at once')
  return new Promise((resolve) => {
    answers.push(resolve)
    thread.postMessage(message)
    bells.ring(bell)
  })
}

const state: { faults: Faults } = {
  faults: existsSync(config.faultsFile)
    ? (JSON.parse(readFileSync(config.faultsFile, 'utf8')) as Faults)
    : NO_FAULTS,
}

function known(endpoint: string): string {
  if (endpoints.includes(endpoint)) return endpoint
  throw new Error(`nothing on the network is called ${endpoint}; there are ${endpoints.join(', ')}`)
}

function changed(command: WanCommand): Faults {
  const { faults } = state
  if (command.command === 'stats') return faults
  if (command.command === 'port') return withPort(faults, known(command.endpoint), command.up)
  const [a, b] = [known(command.a), known(command.b)]
  if (a === b) throw new Error('two different ends are needed')
  switch (command.command) {
    case 'cut':
      return withPair(faults, a, b, { cut: true })
    case 'heal':
      return withPair(faults, a, b, { cut: false, delayMs: null, lossPercent: 0 })
    case 'delay':
      if (command.ms !== null && !(command.ms >= 0 && command.ms <= 60_000))
        throw new Error('a round trip is 0 to 60000 ms')
      return withPair(faults, a, b, { delayMs: command.ms })
    case 'loss':
      if (!(command.percent >= 0 && command.percent <= 100))
        throw new Error('loss is 0 to 100 percent')
      return withPair(faults, a, b, { lossPercent: command.percent })
    default:
      throw new Error(`unknown command ${JSON.stringify(command)}`)
  }
}

async function carryOut(command: WanCommand): Promise<WanReply> {
  const faults = changed(command)
  if (faults !== state.faults) {
    state.faults = faults
    writeFileSync(`${config.faultsFile}.new`, JSON.stringify(faults))
    renameSync(`${config.faultsFile}.new`, config.faultsFile)
    log.info('network changed', { command })
  }
  const counters = await tell({ kind: 'links', links: linksFor(endpoints, faults) })
  return { ok: true, faults, endpoints, counters }
}

await carryOut({ command: 'stats' })
const resolver = config.resolver === null ? null : await startResolver(config.resolver, log)
const control = listenForCommands(config.controlSocket, carryOut)
log.info('network is up', { endpoints })
untilShutdown(log, [
  async () => {
    await tell({ kind: 'stop' })
  },
  async () => {
    control.close()
    await resolver?.close()
  },
])
