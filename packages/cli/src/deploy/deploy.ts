import { existsSync, readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { explained, printJson } from '../command-options.ts'
import { withFilesBeside } from '../config/beside-fly-toml.ts'
import { findConfig } from '../config/config-file.ts'
import { type FlyToml, readFlyToml } from '../config/fly-toml.ts'
import { usage } from '../failure/failure.ts'
import { appNameFor, withApp } from '../session/app-session.ts'
import { progressOn } from '../terminal/progress.ts'
import { styleOf } from '../terminal/style.ts'
import { deployApp } from './deployment.ts'
import {
  type BuildOptions,
  buildFlags,
  buildOptions,
  memoryOption,
  type RolloutOptions,
  regionList,
  rolloutOptions,
  withMemory,
  yesOrNo,
} from './flags.ts'
import { dockerfileOf } from './image.ts'

interface Options extends BuildOptions, RolloutOptions {
  readonly app?: string
  readonly config?: string
  readonly image?: string
  readonly regions?: readonly string[]
  readonly ha?: boolean
  readonly vmMemory?: number
  readonly plan?: boolean
  readonly json?: boolean
}

export function register(parent: Command, context: CliContext): void {
  const command = parent
    .command('deploy')
    .description(
      'Build what the Dockerfile says and release it: new machines start first, then the old ones drain and go. When it fails, everything returns to the release before it.',
    )
    .argument('[folder]', 'with Dockerfile and fly.toml; default: this one')
    .option('-a, --app <name>', 'the app; else ROOST_APP, else the one in fly.toml')
    .option('-c, --config <file>', 'default: fly.toml in the folder')
    .option('--image <reference>', 'release an image that exists: no build')
    .option(
      '--regions <codes>',
      'regions to run in, separated by commas; default: as now',
      regionList,
    )
    .option('--ha <yes>', 'false: a first release makes one machine instead of two', yesOrNo, true)
    .option('--plan', 'with the image built, only show what would be done')
  rolloutOptions(command)
  memoryOption(command)
  buildOptions(command)
  explained(command, {
    examples: [
      'roost deploy',
      'roost deploy --regions ams,iad,syd',
      'roost deploy -a shop --image registry.internal/shop@sha256:…',
      'roost deploy --build-arg VERSION=7 --build-target prod',
      'roost deploy --strategy canary --max-unavailable 25%',
      'roost deploy --detach   # then: roost releases 7 --follow',
    ],
    json: `{app, version, status, image, hostname, url, plan: [{kind: create|replace|update|destroy, region, host, machine, replaces, wave}],
 times_ms: {upload, build, push, release, total}}; progress goes to stderr. With --detach: as it was when it began`,
  })
  command.action((said: string | undefined, options: Options) => run(context, said, options))
}

async function run(context: CliContext, said: string | undefined, options: Options): Promise<void> {
  const folder = resolve(context.cwd, said ?? '.')
  if (!existsSync(folder)) throw usage(`there is no folder ${said}`)
  const file = findConfig(options.config === undefined ? folder : context.cwd, options.config)
  const app = appNameFor({ env: context.env, cwd: file?.folder ?? folder }, options)
  const progress = progressOn(context, options.json ? context.stderr : context.stdout)
  const style = styleOf(context, context.stderr)
  const read = file === null ? null : readFlyToml(file.content, file.shown)
  const whole = read === null || file === null ? null : withFilesBeside(read.config, file.folder)
  for (const warning of [...(read?.warnings ?? []), ...(whole?.warnings ?? [])])
    context.stderr.write(`${style.yellow('Warning:')} ${warning}\n`)

  await withApp(context, { ...options, ...(app === null ? {} : { app }) }, async (session) => {
    const contextFolder = said === undefined && file !== null ? file.folder : folder
    const config = whole?.config ?? (await configWithoutFile(context, contextFolder, options))
    const result = await deployApp(
      context,
      session.client,
      {
        app: session.app,
        folder: contextFolder,
        config: withMemory(config, options.vmMemory),
        base: whole?.base ?? {},
        configFolder: file?.folder,
        source: file?.content,
        image: options.image,
        build: buildFlags(options),
        regions: options.regions,
        ha: options.ha ?? true,
        rollout: options,
        planOnly: options.plan,
      },
      progress,
    )
    if (options.json) printJson(context, result)
  })
}

/** As `roost launch` would write it: HTTP on the port that the Dockerfile exposes. */
async function configWithoutFile(
  context: CliContext,
  folder: string,
  options: Options,
): Promise<FlyToml> {
  if (options.image !== undefined) return { http_service: { internal_port: 8080 } }
  const dockerfile = dockerfileOf(folder, {}, buildFlags(options), context.cwd)
  const { exposedPort } = await import('../launch/exposed-port.ts')
  const port = exposedPort(readFileSync(resolve(folder, dockerfile), 'utf8'), options.buildTarget)
  return { http_service: { internal_port: port ?? 8080 } }
}
