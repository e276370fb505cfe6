import { DEPLOY_STRATEGIES, type DeployStrategy } from '@roost/core'
import { type Command, InvalidArgumentError, Option } from 'commander'
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

/** How a release goes about it: what `deploy`, `rollback`, `scale` and `secrets` have in common. */
export interface FollowOptions {
  readonly detach?: boolean
}
export interface RolloutOptions extends FollowOptions {
  readonly strategy?: DeployStrategy
  readonly maxUnavailable?: number
  readonly waitTimeout?: number
  /** Commander's form of `--no-wait`: true unless it was given. */
  readonly wait?: boolean
}

export function followOptions(command: Command): Command {
  return command.option(
    '--detach',
    'do not wait: the server carries it out; print how to follow it',
  )
}

export function rolloutOptions(command: Command): Command {
  const strategies = new Option(
    '--strategy <strategy>',
    `${DEPLOY_STRATEGIES.join(', ')}; default: as fly.toml says, else rolling`,
  ).choices(DEPLOY_STRATEGIES)
  return followOptions(
    command
      .addOption(strategies)
      .option(
        '--max-unavailable <part>',
        'how many machines are replaced at a time: 2, or a part of them: 0.5, 50%; default: 0.33',
        partOrCount,
      )
      .option(
        '--wait-timeout <time>',
        'how long the machines of a wave may take to become ready; default: 5m',
        timeMs,
      )
      .option('--no-wait', 'fail at once while another release of the app is on its way'),
  )
}

/** As the server wants it; what was not said is left to it. */
export function rolloutBody(options: RolloutOptions, config: FlyToml['deploy'] = {}) {
  const strategy = options.strategy ?? config.strategy
  const maxUnavailable = options.maxUnavailable ?? config.max_unavailable
  return {
    ...(strategy === undefined ? {} : { strategy }),
    ...(maxUnavailable === undefined ? {} : { max_unavailable: maxUnavailable }),
    wait: options.wait ?? true,
  }
}

function partOrCount(text: string): number {
  const percent = /^(\d+(?:\.\d+)?)%$/.exec(text)
  const value = percent === null ? Number(text) : Number(percent[1]) / 100
  const fits = percent === null ? value >= 0 && value <= 500 : value <= 1
  if (text.trim() === '' || !Number.isFinite(value) || !fits)
    throw new InvalidArgumentError('It is a number of machines, or a part of them: 2, 0.5, 50%.')
  // All of them, where one would be a single machine.
  return percent !== null && value === 1 ? 500 : value
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
