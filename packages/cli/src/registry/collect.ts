import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { explained, printJson } from '../command-options.ts'
import { connect } from '../session/connect.ts'
import { sizeText } from '../terminal/size.ts'
import { styleOf } from '../terminal/style.ts'
import { tableText } from '../terminal/table.ts'

const COLLECT_MS = 15 * 60_000
const SHORT_DIGEST = 'sha256:'.length + 12

export function register(parent: Command, context: CliContext): void {
  const command = parent
    .command('collect')
    .description(
      'Remove images that no machine runs and no release can return to (the last 20 of each app), what is left of apps that are gone, and unfinished uploads. Builds and deploys go on meanwhile. The server does the same by itself: every six hours for what is old, and for all of it when room is short.',
    )
    .option('-n, --dry-run', 'only say what would go')
  explained(command, {
    examples: ['roost registry collect --dry-run', 'roost registry collect'],
    json: `{dry_run, bytes, images: [{repository, digest, tags, why}], repositories, uploads, passed_over: [{repository, why}],
 file_system: {path, bytes, free_bytes, inodes, free_inodes, state}}`,
  })
  command.action(async (options: { json?: boolean; dryRun?: boolean }) => {
    const body = { dry_run: options.dryRun === true }
    const done = await connect(context).collectImages({ body }, { timeoutMs: COLLECT_MS })
    if (options.json) return printJson(context, done)
    const style = styleOf(context, context.stdout)
    const rows = done.images.map(({ repository, digest, tags, why }) => [
      repository,
      tags[0] ?? digest.slice(0, SHORT_DIGEST),
      why,
    ])
    const none = rows.length + done.repositories.length + done.uploads === 0
    const { file_system: disk } = done
    context.stdout.write(
      [
        ...(rows.length === 0
          ? []
          : [tableText(['REPOSITORY', 'IMAGE', 'WHY'], rows, context.stdout), '']),
        ...done.repositories.map((name) => `${name}: all of it, there is no such app any more`),
        ...(done.uploads === 0 ? [] : [`${done.uploads} unfinished uploads`]),
        ...done.passed_over.map(({ repository, why }) =>
          style.dim(`${repository}: left alone, ${why}`),
        ),
        none && done.bytes === 0
          ? 'There was nothing to remove.'
          : `${sizeText(done.bytes)} ${done.dry_run ? 'would be freed' : 'freed'}`,
        `${sizeText(disk.free_bytes)} of ${sizeText(disk.bytes)} are free at ${disk.path}`,
        '',
      ].join('\n'),
    )
  })
}
