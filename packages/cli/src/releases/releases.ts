import type { ReleaseReply } from '@roost/api'
import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained, printJson } from '../command-options.ts'
import { planText, releaseFailure, watchRelease } from '../deploy/release-progress.ts'
import { Failure, usage } from '../failure/failure.ts'
import { type AppOptions, withApp } from '../session/app-session.ts'
import { progressOn } from '../terminal/progress.ts'
import { type Style, styleOf } from '../terminal/style.ts'
import { tableText } from '../terminal/table.ts'
import { ago } from '../terminal/time.ts'

/** A release's own wait is not known here; the longest that there is. */
const WAIT_TIMEOUT_MS_MAX = 3_600_000

interface Options extends AppOptions {
  readonly json?: boolean
  readonly follow?: boolean
  readonly image?: boolean
}

export function register(parent: Command, context: CliContext): void {
  const command = appOption(
    parent
      .command('releases')
      .description('Releases of an app, the newest first, and which of them serves')
      .argument('[version]', 'one of them: what it does, and how it ended'),
  )
    .option('-f, --follow', 'watch the named one, or the newest, until it ends')
    .option('--image', 'with their images')
  explained(command, {
    examples: [
      'roost releases',
      'roost releases --image',
      'roost releases 7',
      'roost releases 7 --follow   # what a detached deploy goes on to do',
    ],
    json: `[{app, version, status, cause, serving, image, strategy, rollback_of, reason, returned, before,
 created_at, updated_at, created_by, plan}]; of a named one: one of these.
With --follow: a line for each event {at, status, message, machine, region}, and the release as the last`,
  })
  command.action((said: string | undefined, options: Options) =>
    withApp(context, options, async ({ client, params, app }) => {
      const version = said === undefined ? null : versionOf(said)
      if (options.follow) {
        const [newest] = version === null ? await client.listReleases({ params }) : []
        const followed = version ?? newest?.version
        if (followed === undefined)
          throw new Failure(`${app} has no release`, { fix: 'roost deploy' })
        const progress = progressOn(context, options.json ? context.stderr : context.stdout)
        const ended = await watchRelease(client, { app, version: followed }, progress, {
          signal: context.interrupted(),
          waitTimeoutMs: WAIT_TIMEOUT_MS_MAX,
          ...(options.json ? { onEvent: (event) => printLine(context, event) } : {}),
        })
        if (options.json) printLine(context, ended)
        if (ended.status === 'failed') throw releaseFailure(ended)
        if (!options.json) progress.line(`Release v${ended.version} of ${app} is complete.`)
        return
      }
      if (version !== null) {
        const release = await client.getRelease({ params: { ...params, version } })
        if (options.json) return printJson(context, release)
        context.stdout.write(`${detailText(release, styleOf(context, context.stdout))}\n`)
        return
      }
      const releases = await client.listReleases({ params })
      if (options.json) return printJson(context, releases)
      if (releases.length === 0) {
        context.stdout.write('No releases yet: roost deploy\n')
        return
      }
      const style = styleOf(context, context.stdout)
      const rows = releases.map((release) => [
        `v${release.version}`,
        statusText(release, style),
        causeText(release),
        ago(release.created_at),
        release.created_by,
        release.reason ?? '',
        ...(options.image ? [release.image] : []),
      ])
      const headings = ['VERSION', 'STATUS', 'DESCRIPTION', 'CREATED', 'BY', 'REASON']
      if (options.image) headings.push('IMAGE')
      context.stdout.write(`${tableText(headings, rows, context.stdout)}\n`)
    }),
  )
}

/** `7`, `v7`. */
export function versionOf(said: string): number {
  const match = /^v?(\d{1,9})$/.exec(said)
  const version = Number(match?.[1])
  if (match === null || version < 1)
    throw usage(`"${said}" is no version: they look like 7 or v7`, 'roost releases')
  return version
}

function statusText(release: ReleaseReply, style: Style): string {
  if (release.serving) return style.green('serving')
  if (release.status === 'failed') return style.red('failed')
  return release.status
}

function causeText({ cause, rollback_of }: ReleaseReply): string {
  return rollback_of === null ? cause : `rollback to v${rollback_of}`
}

function detailText(release: ReleaseReply, style: Style): string {
  const { app, version, image, created_at, created_by, reason, strategy } = release
  return [
    style.bold(`Release v${version} of ${app}: ${statusText(release, style)}`),
    `  ${causeText(release)} by ${created_by}, ${ago(created_at)} (${strategy})`,
    `  ${image}`,
    ...(reason === null ? [] : [`  ${reason}`]),
    planText(release, 'Machines'),
  ].join('\n')
}

function printLine(context: CliContext, value: unknown): void {
  context.stdout.write(`${JSON.stringify(value)}\n`)
}
