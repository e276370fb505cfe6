import { type Command, InvalidArgumentError } from 'commander'
import type { FlyToml } from '../config/fly-toml.ts'
import { durationMs, megabytes } from '../config/reader.ts'
import type { BuildFlags } from './image.ts'

/** What `launch` and `deploy` have in common. */
export interface BuildOptions {
  readonly dockerfile?: string
  readonly ignorefile?: string
  readonly buildTarget?: string
  readonly buildArg?: Readonly<Record<string, string>>
  /** Commander's form of `--no-cache`: true unless it was given. */
  readonly cache?: boolean
}

export function buildOptions(command: Command): Command {
  return command
    .option('--dockerfile <file>', 'default: Dockerfile')
    .option('--ignorefile <file>', 'default: .dockerignore')
    .option('--build-target <stage>', 'stage of the Dockerfile to build')
    .option('--build-arg <name=value>', 'argument of the build; may be repeated', pair)
    .option('--no-cache', 'build every layer anew')
}

export function buildFlags(options: BuildOptions): BuildFlags {
  return {
    dockerfile: options.dockerfile,
    ignorefile: options.ignorefile,
    target: options.buildTarget,
    args: options.buildArg,
    noCache: options.cache === false,
  }
}

function pair(
  text: string,
  before: Readonly<Record<string, string>> | undefined,
): Readonly<Record<string, string>> {
  const at = text.indexOf('=')
  if (at < 1) throw new InvalidArgumentError('It looks like NAME=VALUE.')
  return { ...before, [text.slice(0, at)]: text.slice(at + 1) }
}

/** Memory of each machine, before what fly.toml says. */
export function memoryOption(command: Command): Command {
  return command.option(
    '--vm-memory <size>',
    'memory of each machine: 512, 512mb, 1gb; goes before fly.toml',
    memoryMb,
  )
}

export function withMemory(config: FlyToml, memory: number | undefined): FlyToml {
  if (memory === undefined) return config
  const sections = config.vm === undefined || config.vm.length === 0 ? [{}] : config.vm
  return { ...config, vm: sections.map(({ memory_mb: _, ...vm }) => ({ ...vm, memory })) }
}

function memoryMb(text: string): number {
  const size = megabytes(/^\d+$/.test(text) ? `${text}mb` : text)
  if (size === undefined || size < 64 || size > 1_000_000)
    throw new InvalidArgumentError('It is a size from 64mb on, such as 512mb or 1gb.')
  return size
}

/** `ams,iad`, `ams iad`; each once. */
export function regionList(text: string, before: readonly string[] = []): readonly string[] {
  const regions = text.split(/[\s,]+/).filter((region) => region !== '')
  const wrong = regions.find((region) => !/^[a-z][a-z0-9]{1,11}$/.test(region))
  if (wrong !== undefined)
    throw new InvalidArgumentError(`"${wrong}" is no region: they look like ams.`)
  if (regions.length === 0) throw new InvalidArgumentError('No region is named.')
  return [...new Set([...before, ...regions])]
}

export function yesOrNo(text: string): boolean {
  if (/^(true|yes|on|1)$/i.test(text)) return true
  if (/^(false|no|off|0)$/i.test(text)) return false
  throw new InvalidArgumentError('It is true or false.')
}

export function timeMs(text: string): number {
  const ms = durationMs(text, 's')
  if (ms === undefined || ms < 1000 || ms > 3_600_000)
    throw new InvalidArgumentError('It is a duration from 1s to 1h, such as 5m.')
  return ms
}
