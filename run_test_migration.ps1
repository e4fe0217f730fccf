<#
.SYNOPSIS
Rehearse the migration; without arguments on an embedded DynamoDB.
.DESCRIPTION
.\run_test_migration.ps1 [config_file] [limit] [-Yes]
Finds a Python; guided_run.py does the rest, on every system the same.
.PARAMETER Yes
Ask nothing, answer yes.
#>
[CmdletBinding()]
param(
    [Parameter(ValueFromRemainingArguments = $true)]
    [string[]] $Arguments,
    [switch] $Yes,
    [switch] $Help
)

# Windows PowerShell 5.1 with 'Stop' ends at the first line that a program writes to stderr.
$ErrorActionPreference = 'Continue'

$guided = @((Join-Path $PSScriptRoot 'guided_run.py'), 'rehearse')
if ($Arguments) { $guided += $Arguments }
if ($Yes) { $guided += '--yes' }
if ($Help) { $guided += '--help' }

foreach ($candidate in @(@('py', '-3'), @('python3'), @('python'))) {
    $name = $candidate[0]
    $options = @($candidate | Select-Object -Skip 1)
    if (-not (Get-Command $name -CommandType Application -ErrorAction SilentlyContinue)) { continue }
    # Stays so when the program cannot even start.
    $global:LASTEXITCODE = -1
    & $name @options -c 'import sys; sys.exit(sys.version_info < (3, 6))' *> $null
    if ($LASTEXITCODE -eq 0) {
        & $name @options @guided
        exit $LASTEXITCODE
    }
}

[Console]::Error.WriteLine('error: No Python 3.6 or newer was found as py, python3 or python.')
[Console]::Error.WriteLine('  Fix: install Python 3 and make sure that it is on the PATH.')
exit 3
