import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { explained, printJson } from '../command-options.ts'
import { connect } from '../session/connect.ts'
import { sizeText } from '../terminal/size.ts'
import { tableText } from '../terminal/table.ts'
import { ago } from '../terminal/time.ts'

/** Looking through a large image store takes a while. */
const USAGE_MS = 60_000

export function register(parent: Command, context: CliContext): void {
  const command = parent.command('usage').description('What takes room in the image store')
  explained(command, {
    examples: ['roost registry usage', 'roost registry usage --json | jq .collectable.bytes'],
    json: `{file_system: {path, bytes, free_bytes, inodes, free_inodes, state: ok|low|full}, bytes, uploads: {count, bytes},
 repositories: [{name, images, needed, bytes, newest_at}], collectable: {images, bytes},
 last_collection: {at, freed_bytes, images} | null}`,
  })
  command.action(async (options: { json?: boolean }) => {
    const found = await connect(context).imageStore({}, { timeoutMs: USAGE_MS })
    if (options.json) return printJson(context, found)
    const rows = [...found.repositories]
      .sort((a, b) => b.bytes - a.bytes)
      .map(({ name, images, needed, bytes, newest_at }) => [
        name,
        String(images),
        String(needed),
        sizeText(bytes),
        newest_at === null ? '' : ago(newest_at),
      ])
    const { file_system: disk, uploads, collectable } = found
    const headings = ['REPOSITORY', 'IMAGES', 'NEEDED', 'SIZE', 'NEWEST']
    context.stdout.write(
      [
        ...(rows.length === 0 ? [] : [tableText(headings, rows, context.stdout), '']),
        `${sizeText(found.bytes)} in all (what images share counts once)${uploads.count === 0 ? '' : `, of that ${sizeText(uploads.bytes)} in unfinished uploads`}`,
        `${sizeText(disk.free_bytes)} of ${sizeText(disk.bytes)} are free at ${disk.path}`,
        collectable.bytes === 0
          ? 'Nothing of it can go.'
          : `${sizeText(collectable.bytes)} can go: roost registry collect`,
        '',
      ].join('\n'),
    )
  })
}
