import type { ApiClient, MachineReply } from '@roost/api'
import type { Command } from 'commander'
import { GUEST_SIZES, guestPreset } from '../config/guest.ts'
import { megabytes } from '../config/reader.ts'
import { usage } from '../failure/failure.ts'

/** What `machine run`, `create`, `clone` and `update` have in common. */
export interface MachineOptions {
  readonly region?: string
  readonly name?: string
  readonly env?: readonly string[]
  readonly vmSize?: string
  readonly vmMemory?: string
  readonly restart?: string
  readonly metadata?: readonly string[]
  readonly entrypoint?: string
  readonly port?: readonly string[]
  readonly schedule?: string
  readonly rm?: boolean
}

type Config = Parameters<ApiClient['createMachine']>[0]['body']['config']

const more = (value: string, before: readonly string[] = []) => [...before, value]

export function machineOptions(command: Command): Command {
  return command
    .option('-e, --env <NAME=VALUE>', 'a variable of its environment; may be repeated', more)
    .option('--vm-size <name>', `${GUEST_SIZES[0]}, ${GUEST_SIZES[1]} …`)
    .option('--vm-memory <size>', '512mb, 1gb')
    .option('--restart <policy>', 'no, always or on-failure')
    .option('-m, --metadata <NAME=VALUE>', 'may be repeated', more)
    .option('--entrypoint <command>', 'in place of that of the image')
    .option(
      '-p, --port <port>',
      'HTTP on 80 and 443 leads to this port of the machine; may be repeated',
      more,
    )
    .option('--schedule <when>', 'hourly, daily, weekly or monthly')
    .option('--rm', 'destroy it when its program ends')
}

/** The keys that were said, as the Machines API has them. `command`: words of the command line. */
export function configChanges(
  options: MachineOptions,
  command: readonly string[],
  split: (line: string) => readonly string[] | null,
): Partial<Config> {
  const init = {
    ...(command.length === 0 ? {} : { cmd: [...command] }),
    ...(options.entrypoint === undefined
      ? {}
      : { entrypoint: [...(split(options.entrypoint) ?? unclosed(options.entrypoint))] }),
  }
  const guest = guestOf(options)
  return {
    ...(options.env === undefined ? {} : { env: pairs(options.env, '--env') }),
    ...(options.metadata === undefined ? {} : { metadata: pairs(options.metadata, '--metadata') }),
    ...(Object.keys(init).length === 0 ? {} : { init }),
    ...(guest === null ? {} : { guest }),
    ...(options.restart === undefined ? {} : { restart: { policy: policyOf(options.restart) } }),
    ...(options.port === undefined ? {} : { services: options.port.map(serviceOn) }),
    ...(options.schedule === undefined ? {} : { schedule: options.schedule as 'daily' }),
    ...(options.rm === undefined ? {} : { auto_destroy: true }),
  }
}

/** The configuration of a machine with some keys changed; what is a table of names is added to. */
export function changedConfig(config: MachineReply['config'], changes: Partial<Config>): Config {
  const inside = (key: 'env' | 'metadata' | 'init' | 'guest') =>
    changes[key] == null
      ? {}
      : { [key]: { ...(config[key] as object | undefined), ...changes[key] } }
  return {
    ...(config as Config),
    ...changes,
    ...inside('env'),
    ...inside('metadata'),
    ...inside('init'),
    ...inside('guest'),
  }
}

function guestOf({ vmSize, vmMemory }: MachineOptions): NonNullable<Config['guest']> | null {
  if (vmSize === undefined && vmMemory === undefined) return null
  const preset = vmSize === undefined ? {} : guestPreset(vmSize)
  if (preset === null) throw usage(`"${vmSize}" is no size: ${GUEST_SIZES.join(', ')}`)
  if (vmMemory === undefined) return preset
  const memory = megabytes(/^\d+$/.test(vmMemory) ? `${vmMemory}mb` : vmMemory)
  if (memory === undefined) throw usage(`"${vmMemory}" is no memory: it looks like 512mb or 1gb`)
  return { ...preset, memory_mb: memory }
}

function policyOf(said: string): 'no' | 'always' | 'on-failure' {
  if (said === 'no' || said === 'always' || said === 'on-failure') return said
  throw usage(`"${said}" is no restart policy: no, always, on-failure`)
}

function serviceOn(text: string): NonNullable<Config['services']>[number] {
  const port = Number(text)
  if (!/^\d+$/.test(text) || port < 1 || port > 65_535)
    throw usage(`"${text}" is no port: 1 to 65535`)
  return {
    protocol: 'tcp',
    internal_port: port,
    ports: [
      { port: 80, handlers: ['http'] },
      { port: 443, handlers: ['tls', 'http'] },
    ],
  }
}

export function pairs(said: readonly string[], flag: string): Record<string, string> {
  return Object.fromEntries(
    said.map((pair) => {
      const at = pair.indexOf('=')
      if (at < 1) throw usage(`${flag} looks like NAME=VALUE, not ${JSON.stringify(pair)}`)
      return [pair.slice(0, at), pair.slice(at + 1)]
    }),
  )
}

function unclosed(line: string): never {
  throw usage(`${JSON.stringify(line)} has a quote that does not end`)
}
